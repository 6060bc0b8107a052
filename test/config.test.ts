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
