import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Server as HttpServer, type RequestListener } from 'node:http'
import { createSecureServer, type SecureServerOptions } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import type { Socket } from 'node:net'
import { createSecureContext, type SecureVersion, type Server } from 'node:tls'
import { FileWatch } from '../core/file-watch.ts'
import { type NodeLimits, nodeLimits } from './node-limits.ts'
import { Sessions } from './sessions.ts'

export interface TlsOptions {
  /** The certificate with its chain, and its key, in PEM. */
  readonly cert_file: string
  readonly key_file: string
  readonly min_version: SecureVersion
  readonly http2: boolean
}

/** Why a certificate cannot be used; quotes nothing of the key. */
export class TlsFault extends Error {}

export interface TlsLog {
  info(fields: object, message: string): void
  error(fields: object, message: string): void
}

interface Identity {
  readonly cert: Buffer
  readonly key: Buffer
  readonly minVersion: SecureVersion
}

/** Servers that speak TLS, HTTP/2 and HTTP/1.1, with a certificate whose files are followed. */
export class Tls {
  readonly #options: TlsOptions
  readonly #limits: NodeLimits
  readonly #log: TlsLog
  readonly #watch: FileWatch
  readonly #servers = new Set<Pick<Server, 'setSecureContext'>>()
  readonly #sessions: Sessions
  #identity: Identity

  /** @throws TlsFault */
  constructor(options: TlsOptions, limits: NodeLimits, log: TlsLog) {
    this.#options = options
    this.#limits = limits
    this.#log = log
    this.#watch = new FileWatch(options.cert_file, options.key_file)
    this.#sessions = new Sessions({
      headers_timeout_ms: limits.headers_timeout_ms,
      idle_ms: nodeLimits(limits).keepAliveTimeout,
    })
    this.#identity = this.#read()
  }

  /** Whether clients may speak HTTP/2. */
  get http2(): boolean {
    return this.#options.http2
  }

  createServer(handler: RequestListener): HttpServer {
    const options = {
      ...this.#identity,
      ...nodeLimits(this.#limits),
      // From here on it is a request's own clocks.
      handshakeTimeout: this.#limits.headers_timeout_ms,
    }
    const server = this.http2 ? this.#createHttp2Server(options, handler) : createHttpsServer(options, handler)
    this.#servers.add(server)
    server.on('close', () => this.#servers.delete(server))
    const sockets = new Set<Socket>()
    server.on('connection', (socket: Socket) => {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    })
    // Node's own leaves out those that TLS has yet to begin on; and a session that is being closed waits for its client.
    Object.assign(server, {
      closeAllConnections: () => {
        for (const socket of sockets) socket.destroy()
      },
    })
    // All that Fastify does with a server an HTTP/2 one has as well, by the same names.
    return server as unknown as HttpServer
  }

  #createHttp2Server(options: Identity & ReturnType<typeof nodeLimits>, handler: RequestListener) {
    const server = createSecureServer({ ...options, ...http2Limits }, handler as never)
    const { closeIdleConnections } = HttpServer.prototype
    server.on('session', (session) => this.#sessions.add(session))
    return Object.assign(server, {
      // Node's knows the connections of HTTP/1.1 only.
      closeIdleConnections: () => {
        closeIdleConnections.call(server as never)
        this.#sessions.closeIdle()
      },
    })
  }

  /** Has clients of HTTP/2 take another connection for their next request. */
  goAway(): void {
    this.#sessions.goAway()
  }

  /** Reads the files again. What cannot be used changes nothing; connections that are there keep what they have. */
  reload(): void {
    try {
      this.#identity = this.#read()
      for (const server of this.#servers) server.setSecureContext(this.#identity)
      const { validTo } = new X509Certificate(this.#identity.cert)
      this.#log.info({ file: this.#options.cert_file, valid_to: new Date(validTo).toISOString() }, 'certificate read')
    } catch (fault) {
      if (!(fault instanceof TlsFault)) throw fault
      this.#log.error({ reason: fault.message }, 'certificate cannot be used, the former one stays')
    }
  }

  /** Reads the files again if they have changed and are at rest. To be called now and then. */
  look(): void {
    if (this.#watch.look()) this.reload()
  }

  #read(): Identity {
    const { cert_file, key_file, min_version } = this.#options
    this.#watch.mark()
    const identity = { cert: readPem(cert_file), key: readPem(key_file), minVersion: min_version }
    const certificate = attempt(`${cert_file}: holds no certificate in PEM`, () => new X509Certificate(identity.cert))
    const key = attempt(`${key_file}: holds no private key in PEM, or one with a passphrase`, () =>
      createPrivateKey(identity.key),
    )
    if (!certificate.checkPrivateKey(key)) throw new TlsFault(`${key_file}: is not the key of ${cert_file}`)
    if (new Date(certificate.validTo).getTime() < Date.now()) {
      throw new TlsFault(`${cert_file}: has expired on ${certificate.validTo}`)
    }
    attempt(`${cert_file}: TLS does not take it, its key may be too short`, () => createSecureContext(identity))
    return identity
  }
}

function readPem(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    throw new TlsFault(`${path}: cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
}

function attempt<T>(otherwise: string, make: () => T): T {
  try {
    return make()
  } catch {
    throw new TlsFault(otherwise)
  }
}

/** What one session may cost, each with what it is against. */
const http2Limits: SecureServerOptions = {
  // Beside it.
  allowHTTP1: true,
  settings: {
    // More than any page has at a time, fewer than would be noticed.
    maxConcurrentStreams: 256,
    // As for HTTP/1.1: a stream with more is refused.
    maxHeaderListSize: 16_384,
    enablePush: false,
  },
  // In MB, queued data and headers: new streams are refused beyond.
  maxSessionMemory: 10,
  // Settings in one frame.
  maxSettings: 32,
  maxHeaderListPairs: 128,
  // Streams that are opened beyond the limit above, and frames that make no sense, until the session is ended.
  maxSessionRejectedStreams: 100,
  maxSessionInvalidFrames: 100,
  // Streams that are opened only to be reset (CVE-2023-44487): so many at once, and so many a second, until it is ended.
  streamResetBurst: 1_000,
  streamResetRate: 33,
}
