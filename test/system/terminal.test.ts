import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { eventually } from '../support/client.ts'
import { fakeTool, said, toolboxOf } from '../support/fake-tools.ts'
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

/** A conversation in which Claude calls tools that need consent. */
async function chatWithCareful(scenario: Record<string, string | number>, env: Record<string, string> = {}) {
  const work = ({ input }: { input: unknown }) => said(`did ${JSON.stringify(input)}`)
  const [careful, wary] = ['careful', 'wary'].map((name) => fakeTool(name, work, { approval: 'required' }))
  if (!careful || !wary) throw new Error('there are two of them')
  const rig = await startRig({ env, tools: toolboxOf(careful, wary) })
  const args = ['--url', rig.url, '--model', sim({ tool: 'careful', steps: 1, text: 2, ...scenario })]
  const begin = async (...words: string[]) => {
    const terminal = atTerminal([process.execPath, cli, 'chat', ...args, ...words])
    if (words.length > 0) return terminal
    await terminal.until('> ')
    terminal.type('hello\r')
    return terminal
  }
  return { careful, wary, rig, args, begin }
}

it('shows a call that waits, asks until it understands, and lets it run with an input that was changed', async () => {
  const { careful, begin } = await chatWithCareful({ input: '{"to":"a\\u001b[2J\\u202eb\\u009b"}' })
  const terminal = await begin()
  await terminal.until(/\{\r\n {2}"to": "a\\u001b\[2J\\u202eb\\u009b"\r\n\}\r\nMay careful run.* [45]:\d\d left > $/)
  const first = terminal.raw().length
  await terminal.until(/4:5\d left > $/)
  terminal.type('what?\r')
  await terminal.until(/what\?[\s\S]*left > $/, first)
  terminal.type('e\r')
  await terminal.until(/Input: \{"to":"a\\u001b\[2J\\u202eb\\u009b"\}$/)
  const edited = terminal.raw().length
  terminal.type('\u0015[1]\r')
  await terminal.until(/That is no JSON object[\s\S]*Input: \[1\]$/, edited)
  terminal.type('\u0015{"to":"Ada"}\r')
  await terminal.until(/\(careful: approved\)[\s\S]*← .*changed the input[\s\S]*> $/)
  expect(careful.calls.map(({ input }) => input)).toEqual([{ to: 'Ada' }])
  expect(terminal.raw()).not.toMatch(/\u001b\[2J|\u202e|\u009b/)
  terminal.type('\u0004')
  expect(await terminal.exited).toBe(0)
})

it('takes no yes that was typed before the question, and asks about one call after the other', async () => {
  const { careful, wary, begin } = await chatWithCareful({ tool: 'careful,wary', text: 20, delay_ms: 20 })
  const terminal = await begin()
  await terminal.until('sluice')
  terminal.type('y\r')
  await terminal.until(/May careful run.*left > $/)
  terminal.type('n\r')
  await terminal.until(/May wary run.*left > $/)
  terminal.type('e\r')
  await terminal.until(/Input: .*\}$/)
  // What nobody has changed is not told as a change.
  terminal.type('\r')
  const shown = await terminal.until(/\(wary: approved\)[\s\S]*tokens in[\s\S]*> $/)
  expect(shown).toContain('← The user denied this call.')
  expect(shown).toContain('← did {')
  expect([careful.calls, wary.calls].map((calls) => calls.length)).toEqual([0, 1])
})

it('stops the answer at Ctrl-C while a call waits', async () => {
  const { careful, rig, begin } = await chatWithCareful({})
  const [talk, question] = await Promise.all([begin(), begin('a question')])
  await Promise.all([talk, question].map((terminal) => terminal.until(/left > $/)))
  talk.type('\u0003')
  question.type('\u0003')
  await talk.until(/\(stopped\)[\s\S]*> $/)
  expect(await question.exited).toBe(130)
  expect(await question.until('May careful run')).toMatch(/^A sluice \r\n\{/)
  await eventually(() => rig.app.streams.live === 0)
  const ended = rig.log.filter(({ message }) => message === 'stream ended')
  expect(ended.map(({ status }) => status)).toEqual(['cancelled', 'cancelled'])
  expect(careful.calls).toEqual([])
})

it('tells the time left, and asks no more when it is up', async () => {
  const { careful, begin } = await chatWithCareful({}, { SLUICE_TOOL_LIMITS__APPROVAL_MS: '2500' })
  const terminal = await begin()
  await terminal.until(/0:0\d left > .*0:0[01] left > /)
  await terminal.until(/left > \r\n\(careful: expired\)[\s\S]*tokens in[\s\S]*> $/)
  expect(careful.calls).toEqual([])
})

it('denies in a pipe what needs consent, and says so, unless it is told to agree', async () => {
  const { careful, args } = await chatWithCareful({ text: 13 })
  const denied = chatInPipe([...args, 'hi'])
  const silent = chatInPipe([...args, '--approve', 'none', 'hi'])
  const wrong = chatInPipe([...args, '--approve', 'some', 'hi'])
  expect(await Promise.all([denied.exited, silent.exited, wrong.exited])).toEqual([0, 0, 64])
  expect(denied.output.stderr).toMatch(/^sluice: careful needs consent, .* denied\. --approve all [^\n]*\n$/)
  expect(denied.output.stdout).toContain('The user denied this call: nobody could be asked')
  expect(silent.output).toMatchObject({ stderr: '', stdout: expect.stringContaining('The user denied this call.') })
  expect(careful.calls).toEqual([])
  const agreed = chatInPipe([...args, '--approve', 'all', 'hi'])
  expect(await agreed.exited).toBe(0)
  expect(agreed.output).toMatchObject({ stderr: '', stdout: expect.stringContaining('did {') })
  expect(careful.calls).toHaveLength(1)
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
