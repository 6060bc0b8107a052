import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { describe, expect, it } from 'vitest'
import { formats } from '../src/formats/registry.ts'

interface SourceFile {
  /** Below `src/`. */
  readonly path: string
  readonly text: string
  /** Paths below `src/`, or names of packages. */
  readonly imports: readonly string[]
}

/** The layers from the top down; folders on one line know nothing of each other. A file beside the folders is at the top. */
const layers = [
  ['.'],
  ['http'],
  ['run'],
  ['upstream', 'log', 'tools', 'access', 'limits', 'telemetry', 'simulator', 'doctor'],
  ['formats', 'delivery', 'redis'],
  ['core'],
]
/** Parts that see less than all that is below them, and what they see. */
const seesOnly: Record<string, readonly string[]> = {
  run: ['core'],
  redis: ['core'],
  client: ['core'],
  react: ['client', 'core'],
  playground: ['client', 'doctor', 'core'],
}
/** Commands at the top are clients, too. */
const alsoSees: Record<string, readonly string[]> = { '.': ['client'] }
/** What runs in browsers: of the server it knows types alone, and of packages these. */
const browserPackages: Record<string, readonly string[]> = {
  client: ['eventsource-parser'],
  react: ['react'],
  playground: [],
}

const importPattern =
  /(?:^|[;\s])(?:import|export)\b(?:[^'"`;]*?\bfrom)?\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g

function importsOf(path: string, text: string): string[] {
  return [...text.matchAll(importPattern)].map(([, from, dynamic]) => {
    const target = (from ?? dynamic) as string
    return target.startsWith('.') ? normalize(join(dirname(path), target)) : target
  })
}

const isOurs = (target: string) => target.endsWith('.ts')
/** Commands stand beside `cli.ts`, which they are parts of. */
const folderOf = (path: string) =>
  path.includes('/') && !path.startsWith('commands/') ? (path.split('/')[0] as string) : '.'
const layerOf = (folder: string) => layers.findIndex((layer) => layer.includes(folder))

/** What is wrong with the imports of one file. */
function faultsOf(path: string, imports: readonly string[]): string[] {
  const from = folderOf(path)
  return imports.flatMap((target) => {
    if (!isOurs(target)) {
      const fastify = target === 'fastify' || target.startsWith('@fastify/')
      const foreign = browserPackages[from]?.includes(target) === false
      return (fastify && from !== 'http') || foreign ? [`${path} imports ${target}`] : []
    }
    const to = folderOf(target)
    if (from === to) return []
    if (target.startsWith('..')) return [`${path} imports ${target} from outside of src`]
    const seen = seesOnly[from]
    if (seen) return seen.includes(to) ? [] : [`${path} imports ${target}`]
    if (alsoSees[from]?.includes(to)) return []
    const known = layerOf(from) >= 0 && layerOf(to) >= 0
    return known && layerOf(to) > layerOf(from) ? [] : [`${path} imports ${target}`]
  })
}

/** Every circle of files that import one another, once. */
function cyclesOf(files: ReadonlyMap<string, readonly string[]>): string[] {
  const cycles: string[] = []
  const finished = new Set<string>()
  function visit(path: string, trail: readonly string[]): void {
    const at = trail.indexOf(path)
    if (at >= 0) cycles.push([...trail.slice(at), path].join(' > '))
    if (at >= 0 || finished.has(path)) return
    for (const target of (files.get(path) ?? []).filter(isOurs)) visit(target, [...trail, path])
    finished.add(path)
  }
  for (const path of files.keys()) visit(path, [])
  return cycles
}

describe('the rule check', () => {
  it.each([
    ['core/sse.ts', 'formats/json.ts'],
    ['core/sse.ts', 'app.ts'],
    ['formats/json.ts', 'delivery/connection.ts'],
    ['delivery/connection.ts', 'formats/json.ts'],
    ['formats/json.ts', 'log/memory.ts'],
    ['log/memory.ts', 'upstream/decode.ts'],
    ['telemetry/logger.ts', 'run/run.ts'],
    ['upstream/decode.ts', 'simulator/server.ts'],
    ['run/run.ts', 'http/server.ts'],
    ['run/run.ts', 'log/memory.ts'],
    ['run/run.ts', 'formats/json.ts'],
    ['redis/link.ts', 'log/memory.ts'],
    ['formats/json.ts', 'redis/link.ts'],
    ['limits/limiter.ts', 'log/memory.ts'],
    ['http/server.ts', 'app.ts'],
    ['http/server.ts', 'config.ts'],
    ['http/server.ts', 'commands/serve.ts'],
    ['http/server.ts', 'client/stream.ts'],
    ['client/link.ts', 'formats/json.ts'],
    ['client/link.ts', 'react/chat.ts'],
    ['client/link.ts', 'zod'],
    ['react/chat.ts', 'formats/json.ts'],
    ['react/chat.ts', 'node:fs'],
    ['run/run.ts', 'client/stream.ts'],
    ['elsewhere/x.ts', 'core/sse.ts'],
    ['core/sse.ts', 'elsewhere/x.ts'],
    ['core/sse.ts', '../test/support/client.ts'],
    ['run/run.ts', 'fastify'],
    ['app.ts', '@fastify/cors'],
  ])('finds %s importing %s', (path, target) => {
    expect(faultsOf(path, ['core/errors.ts', target].slice(path.startsWith('elsewhere') ? 1 : 0))).toHaveLength(1)
  })

  it.each([
    ['app.ts', 'config.ts'],
    ['cli.ts', 'commands/serve.ts'],
    ['commands/demo.ts', 'app.ts'],
    ['commands/demo.ts', 'simulator/server.ts'],
    ['commands/chat/telling.ts', 'client/stream.ts'],
    ['http/attach.ts', 'http/server.ts'],
    ['http/attach.ts', 'run/run.ts'],
    ['http/attach.ts', 'formats/json.ts'],
    ['http/server.ts', 'fastify'],
    ['http/server.ts', '@fastify/cors'],
    ['log/memory.ts', 'core/events.ts'],
    ['client/link.ts', 'core/frames.ts'],
    ['client/connection.ts', 'eventsource-parser'],
    ['react/chat.ts', 'client/stream.ts'],
    ['react/use-sluice.ts', 'react'],
    ['formats/json.ts', 'core/sse.ts'],
    ['core/codec.ts', 'core/delta.ts'],
    ['core/position.ts', 'node:crypto'],
  ])('lets %s import %s', (path, target) => {
    expect(faultsOf(path, [target])).toEqual([])
  })

  it('sees every way to import', () => {
    const text = `#!/usr/bin/env node
import a from 'a'
import type { B } from './b.ts'
import {
  c,
  type D,
} from '../core/c.ts'
import './e.ts'
export { f } from "./f.ts"
export * from './g.ts'
const h = await import('./h.ts')
const i = 'import'`
    expect(importsOf('log/x.ts', text)).toEqual([
      'a',
      'log/b.ts',
      'core/c.ts',
      'log/e.ts',
      'log/f.ts',
      'log/g.ts',
      'log/h.ts',
    ])
  })

  it('finds circles of any length, and none where there is none', () => {
    const circles = new Map([
      ['a.ts', ['b.ts']],
      ['b.ts', ['c.ts', 'node:fs']],
      ['c.ts', ['a.ts', 'd.ts']],
      ['d.ts', ['d.ts']],
    ])
    expect(cyclesOf(circles)).toEqual(['a.ts > b.ts > c.ts > a.ts', 'd.ts > d.ts'])
    expect(
      cyclesOf(
        new Map([
          ['a.ts', ['b.ts', 'c.ts']],
          ['b.ts', ['c.ts']],
          ['c.ts', []],
        ]),
      ),
    ).toEqual([])
  })
})

const src = join(import.meta.dirname, '../src')
const files: SourceFile[] = readdirSync(src, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
  .map((entry) => {
    const path = relative(src, join(entry.parentPath, entry.name))
    const text = readFileSync(join(src, path), 'utf8')
    return { path, text, imports: importsOf(path, text) }
  })

const filesWith = (pattern: RegExp) => files.filter(({ text }) => pattern.test(text)).map(({ path }) => path)

describe('the source', () => {
  it('imports downwards only', () => {
    expect(files.length).toBeGreaterThan(30)
    expect(files.flatMap(({ path, imports }) => faultsOf(path, imports))).toEqual([])
  })

  it('takes nothing but types from the server into the browser', () => {
    const valueOfCore = /^(?:import|export)\b(?! type\b)[^'"]*['"]\.\.\/core\//m
    expect(filesWith(valueOfCore).filter((path) => Object.hasOwn(browserPackages, folderOf(path)))).toEqual([])
    expect(valueOfCore.test("import { errorTable } from '../core/errors.ts'")).toBe(true)
  })

  it('imports only files that exist', () => {
    const paths = new Set(files.map(({ path }) => path))
    expect(files.flatMap(({ imports }) => imports.filter((target) => isOurs(target) && !paths.has(target)))).toEqual([])
  })

  it('imports in no circle', () => {
    expect(cyclesOf(new Map(files.map(({ path, imports }) => [path, imports])))).toEqual([])
  })

  it('decides in one place what clients may ask, and begins streams behind it', () => {
    expect(filesWith(/\bpermitted\(/)).toEqual(['core/policy.ts', 'http/intake.ts'])
    expect(filesWith(/\bas Permitted\b/)).toEqual(['core/policy.ts'])
    expect(filesWith(/\bstreams\.(?:begin|start)\(/)).toEqual(['http/intake.ts'])
    const asking = files.filter(({ path, text }) => path.startsWith('http/') && /\.post\b/.test(text))
    // What is posted there asks Claude nothing.
    const others = ['http/tickets.ts', 'http/tools.ts']
    expect(
      asking
        .map(({ path }) => path)
        .filter((path) => !others.includes(path))
        .sort(),
    ).toEqual(
      filesWith(/\bintake\.permit\(/)
        .filter((path) => path.startsWith('http/'))
        .sort(),
    )
  })

  it('reads the environment in config.ts only', () => {
    expect(filesWith(/process\.env|process\[['"]env|\benv\b[^'"]*from 'node:process'/)).toEqual(['config.ts'])
  })

  it('writes SSE fields in core/sse.ts only, but for the simulator, which plays Anthropic', () => {
    const writers = filesWith(/['"`]data: |\\n(?:data|event|id|retry):/)
    // One file reads them by their text.
    expect(writers.filter((path) => !path.startsWith('simulator/') && path !== 'upstream/slice.ts')).toEqual([
      'core/sse.ts',
    ])
  })

  it.each([
    ['OpenTelemetry', '@opentelemetry/', 'telemetry/traces.ts'],
    ['prom-client', 'prom-client', 'telemetry/metrics/metrics.ts'],
  ])('loads %s only where it is wanted', (_, name, loader) => {
    expect(filesWith(new RegExp(`from '${name}`))).toEqual([loader])
    const file = loader.split('/').slice(-2).join('/')
    // A type costs nothing, and an import in an expression is one that may not happen.
    expect(filesWith(new RegExp(`^import (?!type )[^\n]*/${file}'`, 'm'))).toEqual([])
  })

  it('has no default exports', () => {
    expect(filesWith(/^export default\b|\bas default\b/m)).toEqual([])
  })

  it('has no file of more than 250 lines', () => {
    const tooLong = files.filter(({ text }) => text.trimEnd().split('\n').length > 250)
    expect(tooLong.map(({ path }) => path)).toEqual([])
  })

  it('registers every format there is a file of', async () => {
    const paths = files
      .map(({ path }) => path)
      .filter((path) => path.startsWith('formats/') && path !== 'formats/registry.ts')
      // The other direction of a format, such as `ag-ui-request.ts`, stands beside it.
      .filter((path) => !Object.keys(formats).some((name) => path.startsWith(`formats/${name}-`)))
    expect(paths.length).toBeGreaterThan(0)
    const registered = new Set<unknown>(Object.values(formats))
    for (const path of paths) {
      const exported = Object.values((await import(join(src, path))) as object)
      expect(
        exported.some((each) => registered.has(each)),
        path,
      ).toBe(true)
    }
  })
})
