import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { parse as parseYaml } from 'yaml'
import { Simulator } from '../src/simulator/server.ts'
import { type Holder, holder, lettingIn } from './support/access.ts'
import { eventually, fetchAll, open, parseFrames } from './support/client.ts'
import { expectWholeJsonStream } from './support/invariants.ts'
import { startRedis } from './support/redis.ts'
import { startRig } from './support/sluice.ts'

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
  const weather = await fetchAll(`${url}/stream`, { body: { preset: 'weather', prompt: 'Is it warm in Zürich?' } })
  expect(weather.body).toContain('"content":"Zürich: sunny, 21 °C, no rain."')
  expect(expectWholeJsonStream(weather.frames)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
  const live = await open(`${url}/stream?prompt=hello`)
  await live.until('"text"')
  child.kill('SIGTERM')
  expect(expectWholeJsonStream(parseFrames(await live.ended))).toMatchObject({ error: { code: 'shutting_down' } })
  expect(await exited).toBe(0)
})

it('the demo says so where its configuration asks for keys', async () => {
  const keys = JSON.stringify([{ name: 'alice', sha256: 'a'.repeat(64) }])
  const env = { PORT: '0', SLUICE_ACCESS__MODE: 'keys', SLUICE_ACCESS__KEYS: keys }
  const { child, exited, output } = run(['demo'], env)
  await eventually(() => output.stdout.includes('Ctrl-C'), 10_000)
  expect(output.stdout).toContain("-H 'authorization: Bearer …'")
  child.kill('SIGTERM')
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

it('records through one process what another one plays', async () => {
  const claude = await Simulator.start({ defaults: { text: 3, delay_ms: 5 } })
  onTestFinished(() => claude.close())
  const dir = join(mkdtempSync(join(tmpdir(), 'sluice-')), 'recordings')
  const recorder = run(['record', '--dir', dir, '--port', '0', '--upstream', claude.url])
  const [, url] = await eventually(() => /ready on (http:\S+?),/.exec(recorder.output.stdout), 10_000)
  const body = { model: 'm', max_tokens: 9, stream: true, messages: [{ role: 'user', content: 'hi' }] }
  const ask = (base: string | undefined, model: string) =>
    fetchAll(`${base}/v1/messages`, { body: { ...body, model }, headers: { 'x-api-key': 'any' } })
  const live = await ask(url, 'm')
  await eventually(() => recorder.output.stderr.includes('whole: '))
  recorder.child.kill('SIGTERM')
  expect(await recorder.exited).toBe(0)
  const player = run(['simulate', '--port', '0', '--recordings', dir])
  const [, other] = await eventually(() => /listening on (http:\S+?);/.exec(player.output.stdout), 10_000)
  const [, name] = await eventually(() => /^ {2}(\S+Z-m)$/m.exec(player.output.stdout))
  const again = await ask(other, `m?recording=${name}&pace=recorded`)
  const texts = (sse: string) => sse.match(/"text":"[^"]*"/g)
  expect(texts(again.body)).toEqual(texts(live.body))
  expect((await ask(other, 'm?recording=vercel-ai__text&pace=recorded')).status).toBe(400)
})

it('prints the pins of MCP servers, and what keeps tools off', async () => {
  const it = { kind: 'mcp', command: process.execPath, args: [join(import.meta.dirname, 'support/mcp-stdio.ts')] }
  const asked = (more: object) => run(['tools'], { SLUICE_TOOLS__IT: JSON.stringify({ ...it, ...more }) })
  const good = asked({ allow: ['echo'] })
  const off = asked({ allow: ['echo', 'nonesuch'], pins: { echo: '0'.repeat(64) } })
  const away = asked({ command: '/nonexistent', allow: ['echo'] })
  expect(await good.exited).toBe(0)
  const told = parseYaml(good.output.stdout)
  expect(told).toEqual({ tools: { it: { pins: { echo: expect.stringMatching(/^[0-9a-f]{64}$/) } } } })
  expect(good.output.stderr).toMatch(/^sluice: tools\.it: not in allow: .*slow.*\n$/)
  expect([await off.exited, await away.exited]).toEqual([1, 1])
  expect(parseYaml(off.output.stdout)).toEqual(told)
  expect(off.output.stderr).toContain('tools.it.pins.echo: it is not what it was')
  expect(off.output.stderr).toContain('tools.it: the server has no nonesuch')
  expect(away.output.stderr).toMatch(/^sluice: tools\.it: unreachable.*\n$/)
})

it('says how it is used', async () => {
  const help = run(['--help'])
  const [one, other] = [run(['simulate', '--help']), run(['help', 'simulate'])]
  expect(await help.exited).toBe(0)
  expect(help.output.stdout).toContain('sluice [command]')
  expect([await one.exited, await other.exited]).toEqual([0, 0])
  expect(one.output.stdout).toContain('--defaults')
  expect(other.output.stdout).toBe(one.output.stdout)
  const version = run(['--version'])
  expect(await version.exited).toBe(0)
  expect(version.output.stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
})

it.each([
  [['dance'], "'dance'"],
  [['serve', 'now'], 'now'],
  [['keys', '--port', '1'], '--port'],
  [['simulate', '--port', 'x'], '--port'],
  [['record'], '--dir'],
  [['chat', '--demo', '--url', 'http://127.0.0.1:1'], '--demo'],
])('does not guess what %j may mean', async (args, named) => {
  const { exited, output } = run(args)
  expect(await exited).toBe(64)
  expect(output.stderr).toContain(named)
  expect(output.stdout).toBe('')
})

describe('check', () => {
  const canary = 'canary-of-a-secret'

  it('prints what is in effect, without secrets', async () => {
    const { exited, output } = run(['check'], {
      ANTHROPIC_API_KEY: `${canary},other`,
      REDIS_URL: `redis://u:${canary}@127.0.0.1:1/2`,
      SLUICE_TIMEOUTS__SILENCE_MS: '1234',
      SLUICE_ACCESS__MODE: 'keys',
      SLUICE_ACCESS__KEYS: JSON.stringify([{ name: 'alice', sha256: 'a'.repeat(64) }]),
    })
    expect(await exited).toBe(0)
    expect(output.stdout).not.toContain(canary)
    expect(output.stdout).not.toContain('aaaa')
    expect(output.stdout).toContain('# ANTHROPIC_API_KEY: 2 keys')
    expect(parseYaml(output.stdout)).toMatchObject({
      timeouts: { silence_ms: 1234, total_ms: 900_000 },
      store: { url: 'redis://***:***@127.0.0.1:1/2' },
      access: { mode: 'keys', keys: [{ name: 'alice', sha256: '***' }] },
    })
  })

  it('tells all faults', async () => {
    const { exited, output } = run(['check'], { ANTHROPIC_API_KEY: 'x', PORT: 'banana', SLUICE_NONSENSE: '1' })
    expect(await exited).toBe(78)
    expect(output.stderr).toContain('server.port')
    expect(output.stderr).toContain('SLUICE_NONSENSE')
    expect(output.stdout).toBe('')
  })

  it('asks Claude and Redis for every key', async () => {
    await using redis = await startRedis()
    const simulator = await Simulator.start({ defaults: {} })
    onTestFinished(() => simulator.close())
    const env = { ANTHROPIC_API_KEY: 'one,two', ANTHROPIC_BASE_URL: simulator.url, REDIS_URL: redis.url }
    const good = run(['check', '--connect'], env)
    expect([await good.exited, good.output.stderr]).toEqual([0, ''])
    const away = { ...env, ANTHROPIC_BASE_URL: 'http://127.0.0.1:1', REDIS_URL: 'redis://127.0.0.1:1' }
    const bad = run(['check', '--connect'], away)
    expect(await bad.exited).toBe(1)
    expect(bad.output.stderr.trim().split('\n')).toEqual([
      expect.stringContaining('ANTHROPIC_API_KEY 1: upstream_unreachable'),
      expect.stringContaining('ANTHROPIC_API_KEY 2: upstream_unreachable'),
      expect.stringContaining('store.url: '),
    ])
  })
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

describe('doctor', () => {
  it('says in JSON what it found, and exits with 0 when all is well', async () => {
    const rig = await startRig()
    const { exited, output } = run(['doctor', '--url', rig.url, '--silence', '1', '--json'])
    expect(await exited).toBe(0)
    const { findings } = JSON.parse(output.stdout)
    expect(findings.length).toBeGreaterThan(5)
    for (const { level, says } of findings) expect(level, says).toBe('good')
  })

  it('has a key where one is asked for, and says what is wrong where it has none', async () => {
    const alice = holder('alice')
    const rig = await startRig({ env: lettingIn(alice) })
    const args = ['doctor', '--url', rig.url, '--silence', '0']
    const without = run(args)
    expect(await without.exited).toBe(1)
    expect(without.output.stdout).toContain('401')
    const withKey = run(args, { SLUICE_KEY: alice.key })
    expect([await withKey.exited, withKey.output.stdout.match(/✓/g)?.length]).toEqual([0, 7])
  })

  it('says so when nothing answers', async () => {
    const { exited, output } = run(['doctor', '--url', 'http://127.0.0.1:1'])
    expect(await exited).toBe(1)
    expect(output.stdout).toContain('ECONNREFUSED')
  })

  it.each([[['--url', 'ftp://a']], [['--silence', '999']], [['--silence', 'long']]])('refuses %j', async (args) => {
    expect(await run(['doctor', ...args]).exited).toBe(64)
  })
})
