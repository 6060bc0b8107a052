import { createServer, type RequestListener } from 'node:http'
import { onTestFinished } from 'vitest'
import { eventually } from './client.ts'
import { portOf } from './relay.ts'

/** An HTTP server of a test's own, closed when the test ends; gives its URL. */
export async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  await eventually(() => server.listening)
  return `http://127.0.0.1:${portOf(server)}`
}
