import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { eventually } from '../support/client.ts'
import { serve } from '../support/serve.ts'
import { sim, startRig } from '../support/sluice.ts'
import { atTerminal } from '../support/terminal.ts'

const cli = join(import.meta.dirname, '../../src/cli.ts')

function chatInPipe(args: string[], input?: string) {
  const child = spawn(process.execPath, [cli, 'chat', ...args])
  onTestFinished(() => void child.kill('SIGKILL'))
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', (text) => {
    output.stdout += text
  })
  child.stderr.on('data', (text) => {
    output.stderr += text
  })
  if (input !== undefined) child.stdin.end(input)
  return { child, output, exited: once(child, 'close').then(([code]) => code as number) }
}

it('is a conversation at a terminal, whose answers can be stopped', async () => {
  const rig = await startRig()
  const args = ['chat', '--url', rig.url, '--model', sim({ text: 4, thinking: 2, delay_ms: 5 })]
  const terminal = atTerminal([process.execPath, cli, ...args])
  await terminal.until('> ')
  terminal.type('hello\r')
  const answered = await terminal.until(/tokens in, 6 out[\s\S]*> $/)
  expect(answered).toContain('A sluice \r\n\r\nA sluice lets through \r\n')
  expect(terminal.raw()).toContain('\u001b[2m')

  terminal.type(`/model ${sim({ text: 2_000, delay_ms: 20 })}\r`)
  await terminal.until('The model is claude-sim?text=2000')
  const before = terminal.raw().length
  terminal.type('go on\r')
  await terminal.until('lets', before)
  terminal.type('\u0003')
  await terminal.until(/\(stopped\)[\s\S]*> $/, before)
  await eventually(() => rig.simulator.requests.at(-1)?.abortedAt)
  expect(rig.simulator.requests.at(-1)?.body).toMatchObject({ messages: { length: 3 } })

  terminal.type('\u0003')
  expect(await terminal.exited).toBe(0)
})

it('says what went wrong and asks on, and takes what is pasted as one question', async () => {
  const rig = await startRig()
  const args = ['chat', '--url', rig.url, '--model', sim({ status: 400, message: 'No \u001b[2Jsuch thing.' })]
  const terminal = atTerminal([process.execPath, cli, ...args], { NO_COLOR: '1' })
  await terminal.until('> ')
  terminal.type('two\rlines\r')
  await terminal.until(/upstream_invalid_request\)[\s\S]*> $/)
  expect(rig.simulator.requests.map(({ body }) => (body as { messages: unknown[] }).messages)).toEqual([
    [{ role: 'user', content: 'two\nlines' }],
  ])
  expect(terminal.raw()).not.toContain('\u001b[2J')
  expect(terminal.raw()).not.toContain('\u001b[31m')
  terminal.type('/nonsense\r')
  await terminal.until('There is no /nonsense')
  terminal.type('\u0004')
  expect(await terminal.exited).toBe(0)
})

it('is one question in a pipe, and prints the text alone', async () => {
  const tricky = [
    { type: 'start', stream: `s_${'a'.repeat(22)}`, model: 'm', format_version: 1 },
    { type: 'message', id: 'm', model: 'm', usage: {} },
    { type: 'thinking', block: 0, text: 'hidden' },
    { type: 'text', block: 1, text: 'one\u001b]0;title\u0007 two' },
    { type: 'done', stop_reason: 'end_turn', usage: {}, cost_usd: null, timing: {}, recovered: 0 },
  ]
  const asked: string[] = []
  const url = await serve(async (request, response) => {
    let body = ''
    for await (const bytes of request) body += bytes
    asked.push(body)
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.end(
      tricky.map((frame, n) => `id: s_${'a'.repeat(22)}.${n + 1}\ndata: ${JSON.stringify(frame)}\n\n`).join(''),
    )
  })
  const piped = chatInPipe(['--url', url], 'from stdin\n')
  const words = chatInPipe(['--url', url, '--system', 's', 'from', 'words'])
  expect([await piped.exited, await words.exited]).toEqual([0, 0])
  expect([piped.output, words.output]).toEqual(Array(2).fill({ stdout: 'one two\n', stderr: '' }))
  expect(
    asked.map((body) => JSON.parse(body)).sort((a, b) => a.messages[0].content.localeCompare(b.messages[0].content)),
  ).toEqual([
    { messages: [{ role: 'user', content: 'from stdin\n' }] },
    { messages: [{ role: 'user', content: 'from words' }], system: 's' },
  ])
})

it('fails in a pipe with a sentence, and stops at Ctrl-C', async () => {
  const rig = await startRig()
  const stopped = chatInPipe(['--url', rig.url, '--model', sim({ text: 2_000, delay_ms: 20 }), 'hi'])
  const failed = chatInPipe(['--url', rig.url, '--model', sim({ text: 9, error_at: 6 }), 'hi'])
  const away = chatInPipe(['--url', 'http://127.0.0.1:1', 'hi'])
  await eventually(() => stopped.output.stdout !== '', 10_000)
  stopped.child.kill('SIGINT')
  expect(await stopped.exited).toBe(130)
  await eventually(() => rig.simulator.requests.some(({ abortedAt }) => abortedAt))
  expect([await failed.exited, failed.output.stdout]).toEqual([1, 'A sluice lets \n'])
  expect(failed.output.stderr).toMatch(/^sluice: .* \(upstream_overloaded\)\n$/)
  expect(await away.exited).toBe(1)
  expect(away.output.stderr).toMatch(/^sluice: Nothing answers at http:\/\/127\.0\.0\.1:1 .*npm run demo.*--url/)
})

it('is told how long the doctor takes, for as long as it does', async () => {
  const terminal = atTerminal([process.execPath, cli, 'doctor', '--url', 'http://127.0.0.1:1', '--silence', '9'])
  expect(await terminal.exited).toBe(1)
  await terminal.until('ECONNREFUSED')
  expect(terminal.raw()).toMatch(/: 9 s left\r\u001b\[K {2}.*✗/)
})

it('brings a demo along', async () => {
  const { exited, output } = chatInPipe(['--demo', '--model', sim({ text: 3 }), 'hi'])
  expect(await exited).toBe(0)
  expect(output).toEqual({ stdout: 'A sluice lets \n', stderr: '' })
})
