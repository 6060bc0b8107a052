import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse as parseYaml } from 'yaml'
import { type ConfigError, loadConfig } from '../../src/config.ts'
import { offeredName } from '../../src/tools/settings.ts'
import { privateAddresses, privateIpv6 } from '../support/addresses.ts'

const input_schema = { type: 'object' }
const webhook = { kind: 'webhook', url: 'https://tool.example/run', input_schema }
const mcp = { kind: 'mcp', url: 'https://mcp.example/mcp', allow: ['read'] }

function load(tools: Record<string, unknown>) {
  const names = Object.entries(tools).map(([name, tool]) => [
    `SLUICE_TOOLS__${name.toUpperCase()}`,
    JSON.stringify(tool),
  ])
  return loadConfig(Object.fromEntries(names)).tools
}

function faultsOf(tools: Record<string, unknown>): readonly string[] {
  try {
    load(tools)
    return []
  } catch (thrown) {
    return (thrown as ConfigError).faults
  }
}

describe('tools', () => {
  it('are none unless some are declared', () => {
    expect(loadConfig({}).tools).toEqual({})
  })

  it('have limits of their own', () => {
    expect(load({ weather: webhook, files: mcp })).toEqual({
      weather: {
        ...webhook,
        timeout_ms: 10_000,
        max_bytes: 262_144,
        max_concurrent: 16,
        approval: 'none',
        headers: {},
        allow_private: false,
      },
      files: {
        ...mcp,
        args: [],
        env: {},
        approvals: {},
        pins: {},
        pin: false,
        timeout_ms: 10_000,
        max_bytes: 262_144,
        max_concurrent: 16,
        approval: 'none',
        headers: {},
        allow_private: false,
      },
    })
  })

  it.each<[string, Record<string, unknown>]>([
    ['kind', { kind: 'program' }],
    ['input_schema', { ...webhook, input_schema: { type: 'string' } }],
    ['input_schema', { ...webhook, input_schema: undefined }],
    ['url', { ...webhook, url: 'ftp://tool.example' }],
    ['url', { ...webhook, url: 'file:///etc/passwd' }],
    ['url', { ...webhook, url: 'unix:/run/docker.sock' }],
    ['url', { ...webhook, url: 'tool.example' }],
    ['url', { ...webhook, url: 'http://tool.example' }],
    ['url', { ...webhook, url: 'https://user:password@tool.example' }],
    ['url', { ...webhook, url: 'https://tool.example/#x' }],
    ['url', { ...webhook, url: 'https://localhost/' }],
    ['url', { ...webhook, url: 'https://a.localhost./' }],
    ['url', { ...webhook, url: 'http://127.0.0.1/', allow_private: ['10.0.0.0/8'] }],
    ['url', { ...webhook, url: 'http://10.0.0.1/', allow_private: ['10.0.0.0/8'] }],
    ['url', { ...webhook, url: 'https://169.254.169.254/', allow_private: ['169.254.0.0/16'] }],
    ['url', { ...mcp, url: 'http://mcp.example/' }],
    ['allow_private', { ...webhook, allow_private: true }],
    ['allow_private', { ...webhook, allow_private: ['localhost'] }],
    ['secret', { ...webhook, secret: 'short' }],
    ['secret', { ...webhook, secret: 'x'.repeat(20), secret_file: '/secret' }],
    ['headers', { ...webhook, headers: { 'x-a': 'b\r\nx-c: d' } }],
    ['headers', { ...webhook, headers: { 'x a': 'b' } }],
    ['headers', { ...webhook, headers: { 'Sluice-Signature': 'b' } }],
    ['headers', { ...webhook, headers: { Host: 'b' } }],
    ['timeout_ms', { ...webhook, timeout_ms: 0 }],
    ['max_bytes', { ...webhook, max_bytes: 10 }],
    ['max_concurrent', { ...webhook, max_concurrent: 0 }],
    ['approval', { ...webhook, approval: 'maybe' }],
    ['allow', { ...mcp, allow: [] }],
    ['allow', { kind: 'mcp', url: mcp.url }],
    ['url or command', { kind: 'mcp', allow: ['read'] }],
    ['url or command', { ...mcp, command: 'node' }],
    ['command', { ...mcp, args: ['x'] }],
    ['command', { ...mcp, env: { A: 'b' } }],
    ['for a url', { kind: 'mcp', command: 'node', allow: ['read'], token: 'x' }],
    ['for a url', { kind: 'mcp', command: 'node', allow: ['read'], headers: { a: 'b' } }],
    ['token', { ...mcp, token: 'x', token_file: '/token' }],
    ['token', { ...mcp, token: 'x y' }],
    ['Authorization', { ...mcp, token: 'x', headers: { authorization: 'y' } }],
    ['approvals', { ...mcp, approvals: { write: 'required' } }],
    ['pins', { ...mcp, pins: { write: 'a'.repeat(64) } }],
    ['pins', { ...mcp, pins: { read: 'a' } }],
    ['128', { ...mcp, allow: ['x'.repeat(128)] }],
  ])('are refused for their %s: %j', (what, tool) => {
    const faults = faultsOf({ one: tool })
    expect(faults.length).toBeGreaterThan(0)
    expect(faults.every((fault) => fault.startsWith('tools.one'))).toBe(true)
    expect(faults.join()).toContain(what)
  })

  it.each([
    ...privateAddresses,
    ...privateIpv6.map((address) => `[${address}]`),
    '2130706433',
    '0x7f.1',
    '0177.0.0.1',
  ])('are refused at the address %s, unless it is allowed', (host) => {
    expect(faultsOf({ one: { ...webhook, url: `https://${host}/` } })).toEqual([
      expect.stringContaining('allow_private'),
    ])
  })

  it('may be at addresses that are allowed, at loopback ones without TLS', () => {
    const tools = {
      one: { ...webhook, url: 'http://localhost:8080/', allow_private: ['127.0.0.0/8'] },
      two: { ...webhook, url: 'http://[::1]:8080/', allow_private: ['::1'] },
      three: { ...webhook, url: 'https://10.1.2.3/', allow_private: ['10.1.0.0/16'] },
    }
    expect(faultsOf(tools)).toEqual([])
  })

  it('are refused when two have one name', () => {
    const two = { a: { ...mcp, allow: ['b_c'] }, a_b: { ...mcp, allow: ['c'] } }
    expect(faultsOf(two)).toEqual(['tools.a_b: offers a_b_c, as tools.a does'])
    expect(faultsOf({ a: { ...mcp, allow: ['x.y', 'x/y'] } })).toEqual(['tools.a: offers a_x_y, as tools.a does'])
    expect(faultsOf({ a: mcp, a_read: webhook })).toEqual(['tools.a_read: offers a_read, as tools.a does'])
  })

  it('tell all faults, and none of their secrets', () => {
    const secret = 'CANARY'
    const faults = faultsOf({
      one: { ...webhook, secret, headers: { 'x-a': `${secret}\n` }, token: secret },
      two: { kind: secret },
    })
    expect(faults.length).toBeGreaterThanOrEqual(4)
    expect(faults.join()).not.toContain(secret)
  })
})

describe('the examples of the docs', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/tool-kinds.md'), 'utf8')
  const examples = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text]) => parseYaml(text as string).tools)

  it('are taken', () => {
    expect(examples.length).toBeGreaterThan(1)
    for (const example of examples) expect(faultsOf(example)).toEqual([])
  })
})

describe('the name of a tool of a server', () => {
  it.each([
    ['files', 'read', 'files_read'],
    ['files', 'dir.list/all', 'files_dir_list_all'],
    ['a-b', 'Ünï', 'a-b__n_'],
  ])('of %s and %s is %s', (server, tool, name) => {
    expect(offeredName(server, tool)).toBe(name)
  })
})
