import type { App } from '../app.ts'
import type { Config } from '../config.ts'
import { fail } from './failure.ts'

/** Before a command says that it is ready: whoever reads that may send a signal at once. */
export function onStopSignal(stop: () => void): void {
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
}

export function stopOnSignals(app: App, after: () => Promise<void>): void {
  onStopSignal(stopperOf(app, after))
}

/** Drains and ends the process; called again, hurries. */
export function stopperOf(app: App, after: () => Promise<void>): () => void {
  return () => {
    app
      .shutDown()
      .then(after)
      .then(() => process.exit(0), fail)
  }
}

/** Without a file to read again, SIGHUP ends the process as ever. */
export function onHangUp({ access, server }: Config, reload: () => void): void {
  if (access.keys_file !== undefined || server.tls !== undefined) process.on('SIGHUP', reload)
}
