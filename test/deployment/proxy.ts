import { execFileSync } from 'node:child_process'
import { appendFileSync, chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { eventually } from '../support/client.ts'
import { accepts, freePort, run } from './programs.ts'

export const proxyNames = ['nginx', 'caddy', 'haproxy'] as const
export type ProxyName = (typeof proxyNames)[number]

export interface ProxyOptions {
  /** URLs that take the place of the two servers in the file; one stands for both. */
  readonly servers: readonly string[]
  /** Other changes to the file, from what stands there to what shall. */
  readonly edits?: Readonly<Record<string, string>>
  /** TLS and HTTP/2 towards clients, as in production. */
  readonly tls?: boolean
}

export interface Proxy {
  readonly url: string
  /** Only nginx: reads its configuration again, with these changes to it. */
  reload(edits: Readonly<Record<string, string>>): void
}

interface Program {
  readonly file: string
  readonly command: (config: string) => string[]
  /** The file of the docs as the program takes it. */
  readonly wrap: (text: string, folder: string) => string
  /** What the line that listens becomes with TLS; the certificate and its key are in one file. */
  readonly tls: (port: number, pem: string) => Record<string, string>
}

const docs = join(import.meta.dirname, '../../docs/deployment')

const programs: Record<ProxyName, Program> = {
  nginx: {
    file: 'nginx.conf',
    command: (config) => ['nginx', '-e', 'stderr', '-c', config],
    // What a site may well have set for all its locations: compression of everything, and a cache.
    wrap: (text, folder) => `
      daemon off;
      pid ${folder}/pid;
      events { worker_connections 1024; }
      http {
        ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
        access_log off;
        gzip on;
        gzip_types *;
        gzip_proxied any;
        gzip_min_length 1;
        proxy_cache_path ${folder}/cache keys_zone=cache:1m;
        proxy_cache cache;
        proxy_cache_valid any 1m;
        ${text}
      }`,
    tls: (port, pem) => ({
      'listen 8080;': `listen ${port} ssl http2; ssl_certificate ${pem}; ssl_certificate_key ${pem};`,
    }),
  },
  caddy: {
    file: 'Caddyfile',
    command: (config) => ['caddy', 'run', '--config', config, '--adapter', 'caddyfile'],
    wrap: (text) => `{\n\tadmin off\n\tauto_https disable_redirects\n}\n${text}`,
    tls: (port, pem) => ({ ':8080 {': `https://localhost:${port} {\n\ttls ${pem} ${pem}\n` }),
  },
  haproxy: {
    file: 'haproxy.cfg',
    command: (config) => ['haproxy', '-db', '-f', config],
    // Compression of everything; HAProxy leaves alone what says no-transform.
    wrap: (text) =>
      edit(text, {
        'balance roundrobin': 'balance roundrobin\n    compression algo gzip\n    compression type text/event-stream',
      }),
    tls: (port, pem) => ({ 'bind :8080': `bind :${port} ssl crt ${pem} alpn h2,http/1.1` }),
  },
}

/** Runs the real program with the file that the docs show; stopped when the test ends. */
export async function startProxy(name: ProxyName, options: ProxyOptions): Promise<Proxy> {
  const { file, command, wrap, tls } = programs[name]
  const folder = mkdtempSync(join(tmpdir(), `sluice-${name}-`))
  chmodSync(folder, 0o755)
  const port = await freePort()
  const [first = '', second = first] = options.servers.map((url) => new URL(url).host)
  const shown = readFileSync(join(docs, file), 'utf8')
  const listen = options.tls ? tls(port, selfSigned(folder)) : { 8080: String(port) }
  const placed = edit(shown, { ...listen, 'sluice-1:8787': first, 'sluice-2:8787': second })
  const text = wrap(edit(placed, options.edits ?? {}), folder)
  const config = join(folder, file)
  writeFileSync(config, text)
  // Before `run`, whose own clean-up has to come first: they are carried out in reverse.
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const { child, state } = await run(command(config), folder)
  await eventually(() => state().ended || accepts(port), 10_000)
  if (state().ended) throw new Error(`${name} does not start: ${state().output}`)
  return {
    url: options.tls ? `https://localhost:${port}` : `http://127.0.0.1:${port}`,
    reload(edits) {
      writeFileSync(config, edit(text, edits))
      child.kill('SIGHUP')
    },
  }
}

/** Replaces every occurrence. What is not there has changed in the file, and the test would prove nothing. */
export function edit(text: string, edits: Readonly<Record<string, string>>): string {
  let edited = text
  for (const [from, to] of Object.entries(edits)) {
    if (!edited.includes(from)) throw new Error(`the file of the docs does not contain '${from}'`)
    edited = edited.replaceAll(from, to)
  }
  return edited
}

function selfSigned(folder: string): string {
  const pem = join(folder, 'localhost.pem')
  const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1']
  execFileSync('openssl', [...request, '-subj', '/CN=localhost', '-keyout', pem, '-out', `${pem}.crt`], {
    stdio: 'pipe',
  })
  appendFileSync(pem, readFileSync(`${pem}.crt`))
  return pem
}
