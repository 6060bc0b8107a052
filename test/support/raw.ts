import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { eventually } from './client.ts'

/** Sends raw bytes and gives everything that comes back until the server hangs up. */
export async function sendRaw(url: string, bytes: string | Buffer, more?: (socket: Socket) => void): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  let answer = ''
  socket.setEncoding('latin1')
  socket.on('data', (text: string) => {
    answer += text
  })
  socket.on('error', () => {})
  socket.write(bytes)
  more?.(socket)
  // A reset is an error, and then an end like any other.
  await new Promise((resolve) => socket.once('close', resolve))
  return answer
}

/** The statuses of all answers in what came back. */
export function statusesOf(answer: string): number[] {
  return [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))
}

/** A connection whose answers are collected; it stays open. */
export async function openRaw(
  url: string,
): Promise<{ socket: Socket; answer(): string; until(text: string): Promise<void> }> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  let answer = ''
  socket.setEncoding('latin1')
  socket.on('data', (text: string) => {
    answer += text
  })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return {
    socket,
    answer: () => answer,
    until: async (text) => void (await eventually(() => answer.includes(text), 5_000)),
  }
}
