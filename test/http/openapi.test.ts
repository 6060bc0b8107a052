import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { fetchAll } from '../support/client.ts'
import { startRig } from '../support/sluice.ts'

interface Document {
  readonly paths: Record<string, Record<string, { requestBody?: unknown; parameters: { name: string }[] }>>
}

it('describes every route there is, and no other', async () => {
  const rig = await startRig()
  const answer = await fetchAll(`${rig.url}/openapi.json`)
  const { paths } = JSON.parse(answer.body) as Document
  const described = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method} ${path}`),
  )
  expect(described.sort()).toEqual(declaredRoutes().sort())
})

/** The routes as the sources declare them. */
function declaredRoutes(): string[] {
  const folder = join(import.meta.dirname, '../../src/http')
  const sources = readdirSync(folder).map((file) => readFileSync(join(folder, file), 'utf8'))
  const declarations = sources.flatMap((source) => [
    ...source.matchAll(/\.(get|post|delete)(?:<[^(]*>)?\(\s*'(\/[^']*)'/g),
  ])
  return declarations.map(([, method, path = '']) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`)
}

it('comes from the schemas that check the requests', async () => {
  const rig = await startRig()
  const { paths } = JSON.parse((await fetchAll(`${rig.url}/openapi.json`)).body) as Document
  expect(paths['/stream']?.['get']?.parameters.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['prompt', 'model', 'system', 'max_tokens', 'preset', 'format', 'smooth', 'progress']),
  )
  expect(JSON.stringify(paths['/stream']?.['post']?.requestBody)).toContain('on_disconnect')
  for (const path of ['/stream', '/api/chat', '/ag-ui']) {
    expect(JSON.stringify(paths[path]?.['post']?.requestBody)).toContain('"preset":')
  }
  for (const path of ['/stream', '/api/chat', '/v1/messages', '/v1/chat/completions', '/ag-ui']) {
    expect(paths[path]?.['post']?.parameters).toContainEqual(
      expect.objectContaining({ name: 'idempotency-key', in: 'header', required: false }),
    )
  }
})
