import { existsSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from '@redis/client'
import { expect, it, onTestFinished } from 'vitest'
import { parse } from 'yaml'
import { eventually, fetchAll } from '../support/client.ts'
import { startRig } from '../support/sluice.ts'
import { certificate } from '../support/tls.ts'
import { exitOf, freePort, run } from './programs.ts'
import { configOf, durationMs, imageHealthcheck, read, root } from './settings.ts'

interface Service {
  readonly build?: string
  readonly image?: string
  readonly profiles?: string[]
  readonly command?: string[]
  readonly environment?: Record<string, string>
  readonly volumes?: string[]
  readonly networks?: string[]
  readonly ports?: string[]
  readonly secrets?: string[]
  readonly healthcheck?: { readonly test?: string[] }
  readonly depends_on?: Record<string, { readonly condition: string }>
  readonly stop_grace_period?: string
  readonly read_only?: boolean
  readonly cap_drop?: string[]
}

interface Compose {
  readonly services: Record<string, Service>
  readonly networks: Record<string, unknown>
  readonly volumes: Record<string, unknown>
  readonly secrets: Record<string, unknown>
}

/** With the defaults of its variables, as docker compose fills them in. */
const compose = parse(read('docker-compose.yml').replace(/\$\{\w+:-([^}]*)\}/g, '$1'), { merge: true }) as Compose
const services = Object.entries(compose.services)
const sluices = services.filter(([, service]) => service.build === '.')
const replicas = sluices.filter(([, { profiles }]) => profiles?.includes('replicas'))

it('without a profile it is one Sluice and the page, with it two replicas, a load balancer and Redis', () => {
  const [named, plain] = [true, false].map((has) =>
    services.filter(([, { profiles }]) => (profiles !== undefined) === has).map(([name]) => name),
  )
  expect(plain).toEqual(['sluice', 'web'])
  expect(named?.sort()).toEqual(['load-balancer', 'redis', 'sluice-1', 'sluice-2'])
})

it.each(sluices)('%s starts with its variables, and is stopped with time enough', (_, service) => {
  const config = configOf(service.environment ?? {})
  expect(config.apiKeys).toEqual(['test-key'])
  expect(durationMs(service.stop_grace_period ?? '')).toBeGreaterThan(config.server.drain_ms + 2_000)
  // The page's origin, and the names of whatever is in front.
  const [page] = compose.services['web']?.ports ?? []
  expect(config.server.cors_origins).toEqual([`http://localhost:${page?.split(':')[1]}`])
  expect(config.server.allowed_hosts).toEqual(['sluice', 'load-balancer'])
})

it('what is mounted, waited for, joined and handed in exists', () => {
  for (const [, service] of services) {
    for (const mount of service.volumes ?? []) {
      const [from = ''] = mount.split(':')
      expect(from.startsWith('./') ? existsSync(join(root, from)) : from in compose.volumes, mount).toBe(true)
    }
    for (const [name, { condition }] of Object.entries(service.depends_on ?? {})) {
      const awaited = compose.services[name]
      expect(awaited, name).toBeDefined()
      // The image of Sluice has a health check of its own.
      if (condition === 'service_healthy') expect(awaited?.build === '.' || awaited?.healthcheck?.test).toBeTruthy()
    }
    for (const name of service.networks ?? []) expect(name === 'default' || name in compose.networks).toBe(true)
    for (const name of service.secrets ?? []) expect(compose.secrets).toHaveProperty(name)
  }
})

it('ports are published on this machine alone, and containers may do as little as possible', () => {
  for (const [name, service] of services) {
    for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:/)
    expect([name, service.read_only, service.cap_drop]).toEqual([name, true, ['ALL']])
  }
})

it('the replicas share the Redis of the file, which nothing else reaches', () => {
  expect(replicas).toHaveLength(2)
  for (const [, { environment, networks }] of replicas) {
    expect(environment?.['REDIS_URL']).toBe('redis://redis:6379')
    expect(networks).toContain('store')
  }
  const onStore = services.filter(([, { networks }]) => networks?.includes('store')).map(([name]) => name)
  expect(onStore).toEqual([...replicas.map(([name]) => name), 'redis'])
  expect(compose.services['redis']?.networks).toEqual(['store'])
  expect(compose.networks['store']).toEqual({ internal: true })
})

it('the load balancer has the tested file, which names the replicas', () => {
  const balancer = compose.services['load-balancer']
  expect(balancer?.volumes).toEqual(['./docs/deployment/Caddyfile:/etc/caddy/Caddyfile:ro'])
  const file = read('docs/deployment/Caddyfile')
  expect(file).toContain(`reverse_proxy ${replicas.map(([name]) => `${name}:8787`).join(' ')} {`)
  const [, , inside] = balancer?.ports?.[0]?.split(':') ?? []
  expect(file).toContain(`\n:${inside} {`)
})

it('Redis starts with its command, keeps what it has taken, and its health check says so', async () => {
  const service = compose.services['redis']
  const folder = mkdtempSync(join(tmpdir(), 'sluice-redis-'))
  const port = String(await freePort())
  const mounts = new Map(service?.volumes?.map((mount) => mount.split(':').slice(0, 2).reverse() as [string, string]))
  const command = (service?.command ?? []).map((word) => (mounts.has(word) ? join(root, mounts.get(word) ?? '') : word))
  await run([...command, '--port', port, '--bind', '127.0.0.1', '--dir', folder], root)
  const [kind, check = ''] = service?.healthcheck?.test ?? []
  expect(kind).toBe('CMD-SHELL')
  const exit = (shell: string) => exitOf(['sh', '-c', shell], root)
  const here = check.replace('redis-cli', `redis-cli -p ${port}`)
  await eventually(async () => (await exit(here)) === 0, 5_000)
  expect(await exit(check.replace('redis-cli', `redis-cli -p ${await freePort()}`))).not.toBe(0)
  const client = createClient({ url: `redis://127.0.0.1:${port}` })
  await client.connect()
  onTestFinished(() => client.destroy())
  expect(await client.configGet(['append*', 'maxmemory*', 'save'])).toMatchObject({
    appendonly: 'yes',
    appendfsync: 'everysec',
    'maxmemory-policy': 'noeviction',
    save: '',
  })
})

it("the image's health check tells a Sluice that answers from none", async () => {
  const rig = await startRig()
  const check = imageHealthcheck().with(0, process.execPath)
  expect(await exitOf(check, root, { PORT: new URL(rig.url).port })).toBe(0)
  expect(await exitOf(check, root, { PORT: String(await freePort()) })).toBe(1)
})

it("the image's health check finds a Sluice that speaks TLS, too", async () => {
  const rig = await startRig({ env: certificate().env })
  const check = imageHealthcheck().with(0, process.execPath)
  expect(await exitOf(check, root, { PORT: new URL(rig.url).port })).toBe(0)
})

it('the page is served, and names the Sluice it was given', async () => {
  const port = String(await freePort())
  const { command = [], volumes = [] } = compose.services['web'] ?? {}
  const [from = '', inside = ''] = volumes[0]?.split(':') ?? []
  const placed: Record<string, string> = { 3000: port, '0.0.0.0': '127.0.0.1', node: process.execPath }
  await run(
    command.map((word) => placed[word] ?? word.replace(inside, join(root, from))),
    root,
  )
  const page = await eventually(() => fetchAll(`http://127.0.0.1:${port}/`).catch(() => undefined), 5_000)
  expect(page.body).toContain('const sluice = "http://localhost:8787"')
})
