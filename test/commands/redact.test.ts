import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { redacted } from '../../src/commands/redact.ts'

describe('what is shown of settings', () => {
  const canary = 'canary'

  it.each([
    ['a secret', { tickets: { secret: canary } }],
    ['a secret of a kind', { access: { ops_token: canary } }],
    ['a list of secrets', { secrets: [canary, canary] }],
    ['headers', { tools: { weather: { headers: { authorization: canary, 'x-key': canary } } } }],
    ['args', { tools: { files: { args: ['--token', canary] } } }],
    ['headers of a kind', { telemetry: { otlp_headers: { authorization: canary } } }],
    ['the environment of a program', { mcp: { env: { GITHUB_PAT: canary } } }],
    ['who a URL lets in', { url: `rediss://${canary}:${canary}@redis.example:6379/1` }],
    ['what a URL asks', { tools: { url: `https://hooks.example/run?token=${canary}` } }],
    ['a list of URLs', { urls: [`https://${canary}@a.example`] }],
    ['a number', { password: 12345 }],
  ])('does not hold %s', (_, settings) => {
    const shown = JSON.stringify(redacted(settings))
    expect(shown).not.toContain(canary)
    expect(shown).not.toContain('12345')
    expect(shown).toContain('***')
  })

  it.each([
    [{ max_tokens: 5, key_file: '/run/secrets/key', max_output_tokens: 1, key_ttl_ms: 3, secret: undefined }],
    [{ url: 'https://api.anthropic.com', cors_origins: ['https://app.example.com'], host: '::1' }],
    [{ system: 'You are https:// fine', list: [1, null, true] }],
  ])('holds all the rest of %j', (settings) => {
    expect(redacted(settings)).toEqual(settings)
  })

  it('leaves anything without a telling name as it is', () => {
    const tree = fc.letrec((again) => ({
      value: fc.oneof(fc.integer(), fc.boolean(), fc.stringMatching(/^[a-z ]*$/), again('list'), again('map')),
      list: fc.array(again('value'), { maxLength: 3 }),
      map: fc.dictionary(fc.stringMatching(/^[a-d]{1,3}$/), again('value'), { maxKeys: 3 }),
    })).value
    fc.assert(
      fc.property(tree, (settings) => {
        expect(redacted(settings)).toEqual(settings)
      }),
    )
  })
})
