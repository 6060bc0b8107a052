import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { ResponseOutlet } from '../../src/http/outlet.ts'
import { portOf } from '../support/relay.ts'

it('asks for more no sooner than the next turn, however fast a client takes what there is', async () => {
  let turn = 0
  const count = () => {
    turn++
    counting = setImmediate(count)
  }
  let counting = setImmediate(count)
  onTestFinished(() => clearImmediate(counting))
  /** The turns of the event loop in which pieces were written. */
  const turns: number[] = []
  const server = createServer((_request, response) => {
    const outlet: ResponseOutlet = new ResponseOutlet(response, write)
    function write(): void {
      turns.push(turn)
      if (turns.length === 10) outlet.end('')
      else outlet.write('x'.repeat(128 * 1024))
    }
    write()
  }).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const client = connect(portOf(server), '127.0.0.1').resume()
  onTestFinished(() => void client.destroy())
  // Without chunks each piece goes the way that tells of drains.
  client.write('GET / HTTP/1.0\r\n\r\n')
  await once(client, 'close')
  expect(new Set(turns).size).toBe(10)
})
