import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type ConfigError, loadConfig } from '../src/config.ts'

function fileWith(text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-config-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'file')
  writeFileSync(path, text)
  return path
}

function faultsOf(env: Record<string, string>): readonly string[] {
  try {
    loadConfig(env)
    return []
  } catch (thrown) {
    return (thrown as ConfigError).faults
  }
}

describe('API keys', () => {
  it.each<[string, string[]]>([
    ['sk-one', ['sk-one']],
    [' sk-one\n', ['sk-one']],
    ['sk-one,sk-two', ['sk-one', 'sk-two']],
    ['sk-one, sk-two\r\nsk-three\n\n,', ['sk-one', 'sk-two', 'sk-three']],
    ['sk-one,sk-two,sk-one', ['sk-one', 'sk-two']],
    [' ,\n', []],
    ['', []],
  ])('are read from %j, in the environment and in a file', (text, keys) => {
    expect(loadConfig({ ANTHROPIC_API_KEY: text }).apiKeys).toEqual(keys)
    expect(loadConfig({ ANTHROPIC_API_KEY_FILE: fileWith(text) }).apiKeys).toEqual(keys)
  })

  it('may be none at all', () => {
    expect(loadConfig({}).apiKeys).toEqual([])
  })

  it.each(['sk-one sk-two', 'sk-one,sk-…'])('are refused, and not repeated, when none looks like %j', (text) => {
    expect(faultsOf({ ANTHROPIC_API_KEY: text })).toEqual([expect.stringMatching(/^ANTHROPIC_API_KEY: [^…]*$/)])
    expect(faultsOf({ ANTHROPIC_API_KEY: text }).join()).not.toContain('sk-')
  })

  it('are missed when their file is', () => {
    expect(faultsOf({ ANTHROPIC_API_KEY_FILE: '/no/such/file' })).toEqual([
      'ANTHROPIC_API_KEY_FILE: cannot read /no/such/file',
    ])
  })
})

describe('what is done about failures', () => {
  it('has defaults that cost little', () => {
    const { retry, recovery, upstream } = loadConfig({})
    expect(retry).toMatchObject({ after_timeout: false, budget_ratio: 0.2, budget_floor: 10 })
    expect(recovery).toEqual({ max_attempts: 1, prefill_models: [] })
    expect(upstream.fallback_models).toEqual([])
  })

  it('says which setting there is not', () => {
    const fault = ['server: has no setting prot']
    expect(faultsOf({ ANTHROPIC_API_KEY: 'x', SLUICE_SERVER__PROT: '1' })).toEqual(fault)
    expect(faultsOf({ ANTHROPIC_API_KEY: 'x', SLUICE_CONFIG: fileWith('server: { prot: 1 }') })).toEqual(fault)
  })

  it('comes from the environment as from a file', () => {
    const fromEnv = loadConfig({
      SLUICE_RETRY__AFTER_TIMEOUT: 'true',
      SLUICE_RETRY__BUDGET_RATIO: '0.5',
      SLUICE_RETRY__BUDGET_FLOOR: '0',
      SLUICE_UPSTREAM__FALLBACK_MODELS: 'claude-sonnet-5-5, claude-haiku-5-5',
      SLUICE_RECOVERY__MAX_ATTEMPTS: '0',
      SLUICE_RECOVERY__PREFILL_MODELS: '["claude-sonnet-4-5*"]',
    })
    const text = `
retry: { after_timeout: true, budget_ratio: 0.5, budget_floor: 0 }
upstream: { fallback_models: [claude-sonnet-5-5, claude-haiku-5-5] }
recovery: { max_attempts: 0, prefill_models: [claude-sonnet-4-5*] }
`
    expect(fromEnv).toEqual(loadConfig({ SLUICE_CONFIG: fileWith(text) }))
    expect(fromEnv.upstream.fallback_models).toEqual(['claude-sonnet-5-5', 'claude-haiku-5-5'])
    expect(fromEnv.recovery).toEqual({ max_attempts: 0, prefill_models: ['claude-sonnet-4-5*'] })
    expect(fromEnv.retry).toMatchObject({ after_timeout: true, budget_ratio: 0.5, budget_floor: 0 })
  })

  it.each([
    ['RETRY__AFTER_TIMEOUT', '1'],
    ['RETRY__AFTER_TIMEOUT', 'yes'],
    ['RETRY__BUDGET_RATIO', '-0.1'],
    ['RETRY__BUDGET_RATIO', '10.1'],
    ['RETRY__BUDGET_FLOOR', '1.5'],
    ['RETRY__BUDGET_FLOOR', '-1'],
    ['UPSTREAM__FALLBACK_MODELS', 'with blank'],
    ['UPSTREAM__FALLBACK_MODELS', '[1]'],
    ['RECOVERY__MAX_ATTEMPTS', '11'],
    ['RECOVERY__MAX_ATTEMPTS', '-1'],
    ['RECOVERY__PREFILL_MODELS', 'claude-*-4-5'],
    ['RECOVERY__PREFILL_MODELS', 'claude**'],
  ])('is refused where SLUICE_%s is %s', (name, value) => {
    const [section, key] = name.toLowerCase().split('__')
    expect(faultsOf({ [`SLUICE_${name}`]: value })).toEqual([expect.stringMatching(`^${section}\\.${key}`)])
  })

  it.each(['*', 'claude-*', 'claude-haiku-4-5'])('takes %s for models that accept a prefill', (model) => {
    expect(loadConfig({ SLUICE_RECOVERY__PREFILL_MODELS: model }).recovery.prefill_models).toEqual([model])
  })
})

describe('access', () => {
  const sha256 = 'a'.repeat(64)
  const keys = JSON.stringify([{ name: 'alice', sha256 }])

  it('may be by keys, in the settings or in a file, on any address', () => {
    const env = { HOST: '0.0.0.0', SLUICE_ACCESS__MODE: 'keys' }
    expect(loadConfig({ ...env, SLUICE_ACCESS__KEYS: keys }).access.keys).toEqual([{ name: 'alice', sha256 }])
    expect(loadConfig({ ...env, SLUICE_ACCESS__KEYS_FILE: '/keys' }).access.keys_file).toBe('/keys')
    expect(loadConfig({ HOST: '0.0.0.0', SLUICE_ACCESS__MODE: 'none' }).access.mode).toBe('none')
  })

  const jwt = {
    SLUICE_ACCESS__JWT__JWKS_URL: 'https://issuer.example.com/jwks',
    SLUICE_ACCESS__JWT__ISSUER: 'https://issuer.example.com/',
    SLUICE_ACCESS__JWT__AUDIENCE: 'sluice, other',
  }

  it('may be by tokens, whose settings have names of their own in the environment', () => {
    const { access } = loadConfig({ HOST: '0.0.0.0', SLUICE_ACCESS__MODE: 'jwt', ...jwt })
    expect(access.jwt).toMatchObject({ issuer: 'https://issuer.example.com/', audience: ['sluice', 'other'] })
    expect(access.jwt).toMatchObject({ clock_skew_ms: 60_000, principal_claim: 'sub' })
    const file = fileWith('access: { mode: jwt, jwt: { issuer: me, audience: a, secret_file: /x } }')
    const mixed = loadConfig({ SLUICE_CONFIG: file, SLUICE_ACCESS__JWT__ISSUER: 'you' }).access.jwt
    expect(mixed).toMatchObject({ issuer: 'you', audience: ['a'], secret_file: '/x' })
  })

  it('has tickets with the secret of all, from the environment or a file', () => {
    const env = { SLUICE_ACCESS__MODE: 'jwt', ...jwt }
    const secret = 'x'.repeat(32)
    expect(loadConfig(env).access.tickets).toEqual({ ttl_ms: 60_000 })
    for (const more of [{ TICKETS_SECRET: secret }, { TICKETS_SECRET_FILE: fileWith(`${secret}\n`) }])
      expect(loadConfig({ ...env, ...more }).access.tickets).toEqual({ ttl_ms: 60_000, secret })
    const faults = faultsOf({ ...env, TICKETS_SECRET: 'canary' })
    expect(faults).toEqual([expect.stringMatching(/^access\.tickets\.secret: must be 32/)])
    expect(faults.join()).not.toContain('canary')
  })

  it.each<[string, Record<string, string>]>([
    ['tokens of nobody', { SLUICE_ACCESS__MODE: 'jwt' }],
    ['tokens that are not asked for', jwt],
    ['keys beside tokens', { SLUICE_ACCESS__MODE: 'jwt', ...jwt, SLUICE_ACCESS__KEYS: keys }],
    ['a secret for tickets that nobody needs', { TICKETS_SECRET: 'x'.repeat(32) }],
  ])('is refused with %s', (_, env) => {
    expect(faultsOf(env)).toEqual([expect.stringMatching(/access\.(mode|jwt)/)])
  })

  it.each<[string, Record<string, string>]>([
    ['keys of nobody', { SLUICE_ACCESS__MODE: 'keys' }],
    ['keys that are not asked for', { SLUICE_ACCESS__KEYS: keys }],
    ['keys that are said not to be', { SLUICE_ACCESS__MODE: 'none', SLUICE_ACCESS__KEYS: keys }],
    ['a file that is not read', { SLUICE_ACCESS__KEYS_FILE: '/keys' }],
    ['a public address without a word', { HOST: '::' }],
  ])('is refused with %s', (_, env) => {
    expect(faultsOf(env)).toEqual([expect.stringMatching(/access\.mode/)])
  })

  it.each([
    '[{"name":"alice","sha256":"slk_canary"}]',
    '[{"name":"alice","slk_canary":1}]',
    '{"slk_canary":"alice"}',
    'slk_canary',
    JSON.stringify([
      { name: 'slk_canary', sha256 },
      { name: 'bob', sha256 },
    ]),
  ])('is refused with %s, which is not repeated', (text) => {
    const faults = faultsOf({ SLUICE_ACCESS__MODE: 'keys', SLUICE_ACCESS__KEYS: text })
    expect(faults.length).toBeGreaterThan(0)
    expect(faults.join()).toContain('access.keys')
    expect(faults.join()).not.toContain('slk_canary')
  })
})

describe('presets', () => {
  const faultsIn = (text: string) => faultsOf({ SLUICE_CONFIG: fileWith(text) })

  it('come from a file and from the environment, with any field of the Messages API', () => {
    const text = `
presets:
  Support-1:
    description: Answers customers
    system: [{ type: text, text: Help., cache_control: { type: ephemeral } }]
    tools: [{ type: web_search_20260318, name: web_search, max_uses: 2 }]
    max_tokens: 100
    on_disconnect: finish
    smooth: word
    allow: [thinking]
`
    const { presets } = loadConfig({ SLUICE_CONFIG: fileWith(text), SLUICE_PRESETS__PLAIN: '{}' })
    expect(Object.keys(presets)).toEqual(['Support-1', 'plain'])
    expect(presets['Support-1']).toEqual({
      description: 'Answers customers',
      system: [{ type: 'text', text: 'Help.', cache_control: { type: 'ephemeral' } }],
      tools: [{ type: 'web_search_20260318', name: 'web_search', max_uses: 2 }],
      max_tokens: 100,
      on_disconnect: 'finish',
      smooth: 'word',
      allow: ['thinking'],
    })
    expect(presets['plain']).toEqual({ allow: [] })
  })

  it('name tools of the server that there are', () => {
    const text = `
tools:
  weather: { kind: webhook, url: 'https://a.example/', description: x, input_schema: { type: object } }
  files: { kind: mcp, url: 'https://a.example/mcp', allow: [read.file] }
presets:
  one: { tools: [weather, files_read_file, { name: own, input_schema: { type: object } }] }
`
    expect(() => loadConfig({ SLUICE_CONFIG: fileWith(text) })).not.toThrow()
    expect(faultsIn(text.replace('[weather', '[wether'))).toEqual([
      'presets.one.tools: wether is none that the section tools declares',
    ])
  })

  it('of tools have limits that go together, where there are tools', () => {
    const tool = { kind: 'webhook', url: 'https://a.example/', description: 'x', input_schema: { type: 'object' } }
    const small = { SLUICE_STREAMS__MAX_BYTES: '4096', SLUICE_TOOL_LIMITS__MAX_RESULT_BYTES: '9999999' }
    const env = { ...small, ANTHROPIC_API_KEY: 'x' }
    expect(() => loadConfig(env)).not.toThrow()
    expect(() => loadConfig({ ...env, SLUICE_TOOLS__T: JSON.stringify(tool) })).toThrow(
      /tool_limits\.max_result_bytes: .*; tool_limits\.max_total_result_bytes: /,
    )
  })

  it('are refused with every fault, and without what they say', () => {
    const faults = faultsIn(`
presets:
  bad name: {}
  one: { modle: x, system: 5, max_tokens: 0 }
  two: { temperature: 2, format: html, allow: [messages], tools: [two words] }
  three: { smooth: word, stream: true, system: [{ type: text, swordfish: 1 }] }
`)
    const named = ['bad name', 'one.system', 'one.max_tokens', 'one:', 'two.temperature', 'two.format', 'two.allow.0']
    for (const place of [...named, 'two.tools.0', 'three:', 'three.system']) {
      expect(faults.join('\n'), place).toContain(`presets.${place}`)
    }
    expect(faults.join()).toContain('modle')
    expect(faults.join()).not.toContain('swordfish')
  })

  it.each([
    ['access: { presets_only: true }', /^access\.presets_only: without any/],
    ['access: { default_preset: x }', /^access\.default_preset: x is none/],
    ['access: { models: [claude-x] }', /^upstream\.default_model: is none of access\.models/],
    ['access: { max_tokens: 100 }', /^access\.max_tokens: is less than upstream\.default_max_tokens/],
    ['access: { forbidden_fields: [messages] }', /^access\.forbidden_fields\.0: must be one of model, /],
    ['access: { models: ["claude-*-5"] }', /^access\.models\.0: may hold one \*/],
    ['access: { max_tools: -1 }', /^access\.max_tools: /],
    ['presets: { x: { format: openai, smooth: word } }', /^presets\.x\.smooth: does not work with openai/],
    [
      'presets: { x: { max_tokens: 9, thinking: { type: enabled, budget_tokens: 9 } } }',
      /^presets\.x\.thinking\.budget/,
    ],
    ['{ access: { forbidden_fields: [betas] }, presets: { x: { allow: [betas] } } }', /^presets\.x\.allow: betas/],
  ])('and limits that cannot work together are: %s', (text, fault) => {
    expect(faultsIn(text)).toEqual([expect.stringMatching(fault)])
  })

  it('leave it to nobody to name a model, so that no default has to fit', () => {
    expect(faultsIn('{ access: { presets_only: true, models: [x], max_tokens: 1 }, presets: { a: {} } }')).toEqual([])
  })
})

describe('limits', () => {
  const prices = (...models: string[]) => {
    const price = { input: 1, output: 1, cache_read: 1, cache_write_5m: 1, cache_write_1h: 1 }
    return { SLUICE_UPSTREAM__PRICES: JSON.stringify(Object.fromEntries(models.map((model) => [model, price]))) }
  }

  it('are none unless there are some', () => {
    const { limits, total_limits } = loadConfig({}).access
    expect([limits, total_limits]).toEqual([{}, {}])
    const limited = loadConfig({ SLUICE_ACCESS__TOTAL_LIMITS: '{"tokens_per_day":5}' }).access
    expect([limited.limits, limited.total_limits]).toEqual([{}, { tokens_per_day: 5 }])
  })

  it.each([
    '{"requests_per_minute":0}',
    '{"tokens_per_day":1.5}',
    '{"usd_per_day":-1}',
    '{"requests":5}',
    '5',
  ])('are refused when they are %s', (text) => {
    expect(faultsOf({ SLUICE_ACCESS__LIMITS: text })).toEqual([expect.stringMatching(/^access\.limits/)])
  })

  it.each(['limits', 'total_limits'])('of dollars need to know what things cost (%s)', (place) => {
    const dollars = {
      [`SLUICE_ACCESS__${place.toUpperCase()}`]: '{"usd_per_day":5}',
      SLUICE_UPSTREAM__DEFAULT_MODEL: 'a',
    }
    const fallback = { SLUICE_UPSTREAM__FALLBACK_MODELS: 'b' }
    expect(faultsOf(dollars)).toEqual([expect.stringContaining(`access.${place}.usd_per_day: needs upstream.prices`)])
    expect(faultsOf({ ...dollars, ...prices('c') })).toEqual([expect.stringMatching(/^upstream.prices: has no a/)])
    const faults = faultsOf({ ...dollars, ...fallback, ...prices('a') })
    expect(faults).toEqual([expect.stringMatching(/^upstream.prices: has no b/)])
    expect(faultsOf({ ...dollars, ...fallback, ...prices('a', 'b') })).toEqual([])
    const preset = { SLUICE_PRESETS__X: '{"model":"c"}' }
    expect(faultsOf({ ...dollars, ...preset, ...prices('a') })).toEqual([expect.stringContaining('has no c')])
    const others = { SLUICE_PRESETS__X: '{"fallbacks":[{"model":"c"}],"speed":"fast"}' }
    expect(faultsOf({ ...dollars, ...others, ...prices('a') })).toEqual([
      expect.stringContaining('has no c'),
      expect.stringMatching(/^presets\.X\.speed: /i),
    ])
  })
})

describe('where requests may come from', () => {
  it.each([
    ['TRUSTED_PROXIES', '0.0.0.0/0', 'any client choose its own'],
    ['TRUSTED_PROXIES', 'proxy.internal', 'must be an address'],
    ['TRUSTED_PROXIES', '10.0.0.0/33', 'must be an address'],
    ['ALLOWED_HOSTS', 'https://sluice.example', 'without scheme or port'],
    ['ALLOWED_HOSTS', 'sluice.example:8787', 'without scheme or port'],
    ['CORS_ORIGINS', '*', 'must be an exact origin'],
    ['CORS_ORIGINS', 'https://x.example,null', 'must be an exact origin'],
    ['CORS_ORIGINS', 'https://app.example.com/', 'must be an exact origin'],
    ['TLS', '{"cert_file":"x"}', 'key_file'],
    ['TLS', '{"cert_file":"x","key_file":"y","min_version":"TLSv1.1"}', 'min_version'],
  ])('%s refuses %s', (name, value, reason) => {
    expect(faultsOf({ [`SLUICE_SERVER__${name}`]: value }).join()).toContain(reason)
  })

  it('hosts are compared as Host has them', () => {
    const { server } = loadConfig({ SLUICE_SERVER__ALLOWED_HOSTS: 'Sluice.Example, fd00::1,[FD00::2]' })
    expect(server.allowed_hosts).toEqual(['sluice.example', '[fd00::1]', '[fd00::2]'])
  })
})
