import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it, onTestFinished } from 'vitest'
import { openToolbox } from '../../src/tools/toolbox.ts'
import { eventually, fetchAll } from '../support/client.ts'
import { serve } from '../support/serve.ts'
import { startRig } from '../support/sluice.ts'
import { callTool, keptLog, openTools, settingsOf, toolOf } from '../support/tools.ts'

const input_schema = {
  type: 'object',
  properties: { city: { type: 'string' }, unit: { enum: ['c', 'f'] } },
  required: ['city'],
  additionalProperties: false,
}

/** A webhook whose answers wait until they are let go. */
async function heldWebhook() {
  const held: (() => void)[] = []
  const url = await serve((_, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    held.push(() => response.end('"done"'))
  })
  return { url, held }
}

describe('a toolbox', () => {
  it('is empty without tools, and has loaded nothing for any', async () => {
    const toolbox = await openToolbox({}, keptLog())
    expect(toolbox.names()).toEqual([])
    expect(toolbox.find('weather')).toBeUndefined()
    await toolbox.close()
    // In a process of its own, as this one has loaded all of it.
    const src = join(import.meta.dirname, '../../src')
    const script = `
      const { registerHooks } = await import('node:module')
      const seen = []
      registerHooks({ resolve: (specifier, context, next) => { seen.push(specifier); return next(specifier, context) } })
      await import('${src}/settings.ts')
      const { openToolbox } = await import('${src}/tools/toolbox.ts')
      await (await openToolbox({}, { info() {}, warn() {} })).close()
      process.stdout.write(JSON.stringify(seen))
    `
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script])
    const seen: string[] = JSON.parse(stdout)
    expect(seen.filter((each) => each.endsWith('tools/toolbox.ts'))).toHaveLength(1)
    expect(seen.filter((each) => /modelcontextprotocol|tools\/(?:webhook|mcp|guard|schema)/.test(each))).toEqual([])
  })

  it('has the tools that are declared, until it is closed', async () => {
    const webhook = {
      kind: 'webhook',
      url: 'https://tool.example',
      input_schema,
      approval: 'required',
      timeout_ms: 500,
    }
    const { toolbox } = await openTools({ weather: webhook, time: { ...webhook, approval: 'none' } })
    expect(toolbox.names()).toEqual(['weather', 'time'])
    expect(toolOf(toolbox, 'weather')).toMatchObject({ approval: 'required', timeoutMs: 500 })
    expect(toolOf(toolbox, 'time').approval).toBe('none')
    expect(toolbox.find('toString')).toBeUndefined()
  })

  it.each<[string, Record<string, unknown>]>([
    ['type', { input_schema: { type: 'object', properties: { city: { type: 'strnig' } } } }],
    ['reference', { input_schema: { type: 'object', $ref: '#/$defs/none' } }],
    ['schema', { output_schema: { required: 'mm' } }],
    ['dialect', { input_schema: { type: 'object', $schema: 'https://example.com/dialect' } }],
    ['/no/such/file cannot be read (ENOENT)', { secret_file: '/no/such/file' }],
    ['/dev/null holds less than 16 characters', { secret_file: '/dev/null' }],
  ])('is not opened with a fault: %s', async (what, settings) => {
    const tools = settingsOf({ weather: { kind: 'webhook', url: 'https://tool.example', input_schema, ...settings } })
    const fault = await openToolbox(tools, keptLog()).catch((each: Error) => each)
    expect(fault).toBeInstanceOf(Error)
    expect((fault as Error).message).toMatch(/^tools\.weather: /)
    expect((fault as Error).message).toContain(what)
  })

  it('keeps Sluice from starting when a tool cannot work, and does not when its server is away', async () => {
    const bad = { weather: { kind: 'webhook', url: 'https://tool.example', input_schema, secret_file: '/no/file' } }
    await expect(startRig({ env: envOf(bad) })).rejects.toThrow('tools.weather: /no/file cannot be read')
    const away = { files: { kind: 'mcp', url: 'http://127.0.0.1:1/', allow: ['read'], allow_private: ['127.0.0.1'] } }
    const { url, log } = await startRig({ env: envOf(away) })
    expect((await fetchAll(`${url}/readyz`)).status).toBe(200)
    expect(log).toContainEqual(
      expect.objectContaining({ message: 'mcp server is gone, its tools are off', server: 'files' }),
    )
  })

  it('takes a schema of draft 7 as well, and one $id twice', async () => {
    const $schema = 'http://json-schema.org/draft-07/schema#'
    const tool = (schema: object) => ({
      kind: 'webhook',
      url: 'http://127.0.0.1:1/',
      input_schema: { ...input_schema, ...schema },
    })
    const { toolbox } = await openTools({
      one: tool({ $schema, $id: 'x' }),
      two: tool({ $schema, $id: 'x' }),
      three: tool({ $id: 'x' }),
    })
    for (const name of toolbox.names()) {
      expect((await callTool(toolOf(toolbox, name), { city: 1 })).content, name).toContain('/city must be string')
    }
  })

  it('reads secrets from files', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-tools-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    writeFileSync(join(folder, 'secret'), 'from a file, with a line break\n')
    const signatures: unknown[] = []
    const url = await serve((request, response) => {
      signatures.push(request.headers['sluice-signature'])
      response.writeHead(204).end()
    })
    const { toolbox } = await openTools({
      weather: { kind: 'webhook', url, input_schema, secret_file: join(folder, 'secret') },
    })
    await callTool(toolOf(toolbox, 'weather'), { city: 'Paris' })
    expect(signatures).toEqual([expect.stringMatching(/^v1=[0-9a-f]{64}$/)])
  })
})

describe('a call', () => {
  it.each<[Record<string, unknown>, string]>([
    [{}, "the input must have required property 'city'"],
    [{ city: 3 }, '/city must be string'],
    [{ city: 'Paris', town: 'x' }, 'must NOT have additional properties: town'],
    [{ city: 'Paris', unit: 'k' }, '/unit must be equal to one of the allowed values: ["c","f"]'],
    [{ city: 3, unit: 'k' }, '/city must be string; /unit must be'],
  ])('with the input %j is not made, and says what to mend', async (input, said) => {
    let called = 0
    const url = await serve((_, response) => {
      called++
      response.end()
    })
    const { toolbox } = await openTools({ weather: { kind: 'webhook', url, input_schema } })
    const { content, is_error } = await callTool(toolOf(toolbox, 'weather'), input)
    expect(is_error).toBe(true)
    expect(content).toContain(said)
    expect(called).toBe(0)
  })

  it('does not list faults without end', async () => {
    const schema = { type: 'object', additionalProperties: false }
    const { toolbox } = await openTools({ none: { kind: 'webhook', url: 'http://127.0.0.1:1/', input_schema: schema } })
    const input = Object.fromEntries(Array.from({ length: 5_000 }, (_, n) => [`key_${n}`, n]))
    const { content } = await callTool(toolOf(toolbox, 'none'), input)
    expect(content).toContain('and 4992 more')
    expect((content as string).length).toBeLessThan(2_000)
  })

  it('waits while others are at work, in turn, and no more are made at once', async () => {
    const { url, held } = await heldWebhook()
    const { toolbox } = await openTools({ weather: { kind: 'webhook', url, input_schema, max_concurrent: 2 } })
    const tool = toolOf(toolbox, 'weather')
    const done: number[] = []
    const calls = [1, 2, 3, 4].map((n) =>
      callTool(tool, { city: 'Paris' }).outcome.then((outcome) => {
        done.push(n)
        return outcome
      }),
    )
    await eventually(() => held.length === 2)
    held.shift()?.()
    await eventually(() => held.length === 2 && done.length === 1)
    for (let left = 3; left > 0; left--) {
      await eventually(() => held.length > 0)
      held.shift()?.()
    }
    for (const outcome of await Promise.all(calls)) expect(outcome).toEqual({ content: 'done', is_error: false })
  })

  it('that waited for half of its time is told to be busy, and one that is ended leaves the line', async () => {
    const { url, held } = await heldWebhook()
    const settings = { kind: 'webhook', url, input_schema, max_concurrent: 1, timeout_ms: 400 }
    const { toolbox, log } = await openTools({ weather: settings })
    const tool = toolOf(toolbox, 'weather')
    const slow = callTool(tool, { city: 'Paris' })
    await eventually(() => held.length === 1)
    const ended = callTool(tool, { city: 'Paris' })
    const reason = new Error('gone')
    ended.abort(reason)
    await expect(ended.outcome).rejects.toBe(reason)
    const busy = await callTool(tool, { city: 'Paris' })
    expect(busy).toMatchObject({ is_error: true, content: expect.stringContaining('busy') })
    expect(await slow).toMatchObject({ is_error: true, content: 'The tool did not answer in time.' })
    expect(log.lines.map((line) => line['reason'])).toEqual(['busy', 'timeout'])
    // The slot is free again, for the next one only.
    const next = callTool(tool, { city: 'Paris' })
    const last = callTool(tool, { city: 'Paris' })
    await eventually(() => held.length === 2)
    held[1]?.()
    expect(await next).toEqual({ content: 'done', is_error: false })
    await eventually(() => held.length === 3)
    held[2]?.()
    expect(await last).toEqual({ content: 'done', is_error: false })
  })
})

function envOf(tools: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(tools).map(([name, tool]) => [`SLUICE_TOOLS__${name.toUpperCase()}`, JSON.stringify(tool)]),
  )
}
