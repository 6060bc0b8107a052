import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { parse as parseYaml } from 'yaml'
import { Simulator } from '../src/simulator/server.ts'
import { type Holder, holder } from './support/access.ts'
import { eventually, fetchAll, open, parseFrames } from './support/client.ts'
import { expectWholeJsonStream } from './support/invariants.ts'
import { startRedis } from './support/redis.ts'

const cli = join(import.meta.dirname, '../src/cli.ts')

function run(args: string[], env: Record<string, string> = {}) {
  const { ANTHROPIC_API_KEY: _, ...clean } = process.env
  const child: ChildProcess = spawn(process.execPath, [cli, ...args], { env: { ...clean, ...env } })
  const output = { stdout: '', stderr: '' }
  child.stdout?.on('data', (text) => {
    output.stdout += text
  })
  child.stderr?.on('data', (text) => {
    output.stderr += text
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const exited = once(child, 'exit').then(([code]) => code as number)
  return { child, output, exited }
}

it('without a key it exits 78 with one sentence that says what to do', async () => {
  const { exited, output } = run([])
  expect(await exited).toBe(78)
  expect(output.stderr.trim().split('\n')).toHaveLength(1)
  expect(output.stderr).toContain('ANTHROPIC_API_KEY')
  expect(output.stderr).toContain('npm run demo')
})

it('reports every fault of the configuration at once and exits 78', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'sluice-')), 'sluice.yaml')
  writeFileSync(file, 'server:\n  port: banana\nstreams:\n  grace_sm: 5\n')
  const { exited, output } = run([], {
    ANTHROPIC_API_KEY: 'x',
    SLUICE_CONFIG: file,
    SLUICE_TIMEOUTS__TOTAL_MS: '-1',
    SLUICE_NONSENSE: '1',
  })
  expect(await exited).toBe(78)
  for (const named of ['server.port', 'grace_sm', 'timeouts.total_ms', 'SLUICE_NONSENSE'])
    expect(output.stderr).toContain(named)
})

it('does not start on a public address without a word on access', async () => {
  const { exited, output } = run([], { ANTHROPIC_API_KEY: 'x', HOST: '0.0.0.0' })
  expect(await exited).toBe(78)
  expect(output.stderr).toContain('access.mode')
})

it('the demo streams, and exits 0 on SIGTERM after a terminal frame', async () => {
  const { child, exited, output } = run(['demo'], { PORT: '0', SLUICE_SERVER__DRAIN_MS: '100' })
  const [, url] = await eventually(() => /listening on (http:\S+?),/.exec(output.stdout), 10_000)
  const text = await fetchAll(`${url}/stream?format=text&prompt=hello&max_tokens=5`)
  expect(text.body.endsWith('data: [DONE]\n\n')).toBe(true)
  const live = await open(`${url}/stream?prompt=hello`)
  await live.until('"text"')
  child.kill('SIGTERM')
  expect(expectWholeJsonStream(parseFrames(await live.ended))).toMatchObject({ error: { code: 'shutting_down' } })
  expect(await exited).toBe(0)
})

it('the simulated Claude runs on its own', async () => {
  const { exited, child, output } = run(['simulate', '--port', '0', '--defaults', 'text=3'])
  const [, url] = await eventually(() => /listening on (http:\S+?);/.exec(output.stdout), 10_000)
  const answer = await fetchAll(`${url}/v1/messages`, {
    body: { model: 'm', max_tokens: 9, stream: true, messages: [{ role: 'user', content: 'hi' }] },
    headers: { 'x-api-key': 'any' },
  })
  expect(answer.body.match(/text_delta/g)).toHaveLength(3)
  child.kill('SIGTERM')
  expect(await exited).toBe(0)
})

it('says how it is used', async () => {
  const help = run(['--help'])
  expect(await help.exited).toBe(0)
  expect(help.output.stdout).toContain('sluice [command]')
  const unknown = run(['dance'])
  expect(await unknown.exited).toBe(64)
  expect(unknown.output.stderr).toContain("'dance'")
})

it('writes the line of every stream that its end cuts off', async () => {
  const simulator = await Simulator.start({ defaults: { text: 10_000, delay_ms: 20 } })
  onTestFinished(() => simulator.close())
  const { child, exited, output } = run([], {
    ANTHROPIC_API_KEY: 'x',
    ANTHROPIC_BASE_URL: simulator.url,
    PORT: '0',
    SLUICE_SERVER__DRAIN_MS: '0',
  })
  const [, url] = await eventually(() => /"url":"(.+?)"/.exec(output.stdout), 10_000)
  // More than a pipe takes at once.
  const streams = await Promise.all(Array.from({ length: 200 }, () => open(`${url}/stream?prompt=hello`)))
  await Promise.all(streams.map((stream) => stream.until('"text"')))
  child.kill('SIGTERM')
  await Promise.all(streams.map(({ ended }) => ended))
  expect(await exited).toBe(0)
  await eventually(() => child.stdout?.readableEnded)
  const lines = output.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).message)
  expect(lines.filter((message) => message === 'stream ended')).toHaveLength(200)
  expect(lines.at(-1)).toBe('closed')
})

describe('keys of clients', () => {
  async function newKey(...args: string[]) {
    const { exited, output } = run(['keys', 'new', ...args])
    expect(await exited).toBe(0)
    const [, key = ''] = /^ {2}(slk_[\w-]{43})$/m.exec(output.stdout) ?? []
    const [, name = '', sha256 = ''] = /^ {2}(\S+) ([0-9a-f]{64})$/m.exec(output.stdout) ?? []
    return { key, name, sha256, output }
  }

  it('are made once, with what the configuration needs of them', async () => {
    const { key, name, sha256, output } = await newKey('it:is "me"'.replaceAll(' ', '-'))
    expect(name).toBe('it:is-"me"')
    expect(sha256).toBe(createHash('sha256').update(key).digest('hex'))
    const [yaml = ''] = /^ {2}- \{.*\}$/m.exec(output.stdout) ?? []
    expect(parseYaml(yaml)).toEqual([{ name, sha256 }])
    const others = await Promise.all([newKey(), newKey()])
    expect(new Set([key, ...others.map((each) => each.key)]).size).toBe(3)
    expect(new Set([name, ...others.map((each) => each.name)]).size).toBe(3)
  })

  it.each([
    [['keys']],
    [['keys', 'old']],
    [['keys', 'new', 'a b']],
    [['keys', 'new', 'a', 'b']],
  ])('are not made by %j', async (args) => {
    const { exited, output } = run(args)
    expect(await exited).toBe(64)
    expect(output.stdout).toBe('')
  })

  it.each(['0', '2'])('are read again on SIGHUP, by %s workers', async (workers) => {
    await using redis = workers === '0' ? undefined : await startRedis()
    const [alice, bob] = [holder('alice'), holder('bob')]
    const file = join(mkdtempSync(join(tmpdir(), 'sluice-')), 'keys')
    writeFileSync(file, alice.line)
    const { child, exited, output } = run([], {
      ANTHROPIC_API_KEY: 'x',
      PORT: '0',
      SLUICE_SERVER__DRAIN_MS: '0',
      SLUICE_ACCESS__MODE: 'keys',
      SLUICE_ACCESS__KEYS_FILE: file,
      ...(redis && { WORKERS: workers, REDIS_URL: redis.url }),
    })
    const [, url] = await eventually(() => /"url":"(.+?)"/.exec(output.stdout), 20_000)
    const statusOf = async ({ bearer }: Holder) => (await fetchAll(`${url}/openapi.json`, { headers: bearer })).status
    await eventually(async () => (await statusOf(alice)) === 200, 10_000)
    writeFileSync(file, bob.line)
    child.kill('SIGHUP')
    await eventually(() => output.stdout.split('access keys read').length > Math.max(1, Number(workers)), 10_000)
    expect([await statusOf(alice), await statusOf(bob)]).toEqual([401, 200])
    child.kill('SIGTERM')
    expect(await exited).toBe(0)
  })

  it('must be in a file that can be read', async () => {
    const env = { ANTHROPIC_API_KEY: 'x', SLUICE_ACCESS__MODE: 'keys', SLUICE_ACCESS__KEYS_FILE: '/nonexistent/keys' }
    const { exited, output } = run([], env)
    expect(await exited).toBe(78)
    expect(output.stderr).toBe('sluice: access.keys_file: /nonexistent/keys: cannot be read (ENOENT)\n')
  })
})
