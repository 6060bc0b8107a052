/**
 * Writes the pages and tables that are made from the code, so that they cannot say anything else: `docs/errors.md`,
 * `docs/configuration.md`, `docs/frames.schema.json` and the scenario table of `docs/simulator.md`. With `--check` it writes nothing and names
 * what is out of date.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { loadConfig } from '../src/config.ts'
import { errorTable } from '../src/core/errors.ts'
import { frameSchema } from '../src/formats/json-frames.ts'
import { scenarioFields } from '../src/simulator/scenario.ts'

const root = join(import.meta.dirname, '..')
const annotatedConfig = 'config/sluice.yaml'
const simulatorPage = 'docs/simulator.md'

interface Setting {
  readonly key: string
  /** `undefined` where the setting has no default. */
  readonly standard: string | undefined
  readonly shortName: string | undefined
  readonly meaning: string
}

interface Section {
  readonly name: string
  readonly about: string
  readonly settings: Setting[]
}

const read = (path: string) => readFileSync(join(root, path), 'utf8')

/** Padded, as the formatter has it. */
function table(head: readonly string[], body: readonly (readonly string[])[]): string {
  const rows = [head, ...body].map((row) => row.map((cell) => cell.replaceAll('|', '\\|')))
  const widths = head.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const line = (cells: readonly string[]) => `| ${cells.map((cell, n) => cell.padEnd(widths[n] ?? 0)).join(' | ')} |`
  const [first = '', ...rest] = rows.map(line)
  return [first, line(widths.map((width) => '-'.repeat(width))), ...rest].join('\n')
}

const code = (text: string) => `\`${text}\``

function errorsPage(): string {
  const rows = Object.entries(errorTable).map(([name, error]) => {
    return [code(name), String(error.status), error.retryable ? 'yes' : 'no', error.message]
  })
  return `<!-- Made by docs/generate.ts from src/core/errors.ts. -->

# Errors

A failure reaches a client in one of two ways, and has the same \`code\` in both.

**Before a stream has begun** it is an HTTP status with a JSON body, and \`Retry-After\` on those that pass by themselves:

\`\`\`text
{"error":{"code":"stream_not_found","message":"There is no such stream: …","retryable":false,"request_id":"req_…"}}
\`\`\`

**After that** the status is 200 already, and the failure is the last frame before \`[DONE]\`: \`type\` \`error\` in the
format \`json\`, the event \`stream_error\` in the format \`text\`. \`partial\` says whether content came before it.

A \`POST\` begins its stream with Claude's first word, or after \`streams.commit_after_ms\`; a \`GET\` begins it at once,
because \`EventSource\` never comes back from any status but 200. So a \`GET\` tells all failures of Claude's in the stream.

_Retryable_ means that the same request may go well when it is sent again; what Sluice could repeat by itself it has
repeated by then. Where Claude says what is wrong with a request, its sentence takes the place of the one below.

${table(['Code', 'HTTP status', 'Retryable', 'Message'], rows)}
`
}

/** One space after `#` is a comment; none, or two, is a setting without a default, ready to be uncommented. */
const settingLine = /^#?( {2})?([a-z_]+):(?: (.*))?$/

/** Reads the annotated configuration by lines, as what it says in comments is half of it. */
function readSections(text: string): Section[] {
  const sections: Section[] = []
  let comment: string[] = []
  for (const line of text.split('\n')) {
    const [matched, indent, name = '', value] = settingLine.exec(line) ?? []
    const about = comment.join(' ')
    comment = matched !== undefined || line === '' ? [] : [...comment, line.replace(/^ *# ?/, '')]
    if (matched === undefined) continue
    if (indent === undefined) sections.push({ name, about, settings: [] })
    else sections.at(-1)?.settings.push(toSetting(name, line.startsWith('#') ? undefined : value, about))
  }
  return sections
}

function toSetting(key: string, standard: string | undefined, comment: string): Setting {
  const also = / Also ([A-Z_]+)\./
  return { key, standard, shortName: also.exec(comment)?.[1], meaning: comment.replace(also, '') }
}

/** @throws when the annotated file is not what the schema says */
function checkSections(sections: readonly Section[]): void {
  const { apiKeys: _, ...defaults } = loadConfig({})
  const { apiKeys: __, ...annotated } = loadConfig({ SLUICE_CONFIG: join(root, annotatedConfig) })
  if (!isDeepStrictEqual(annotated, defaults)) throw new Error(`${annotatedConfig} changes a default`)
  for (const [section, settings] of Object.entries(defaults)) {
    const listed = sections.find(({ name }) => name === section)?.settings.map(({ key }) => key) ?? []
    for (const key of Object.keys(settings)) {
      if (!listed.includes(key)) throw new Error(`${annotatedConfig} lacks ${section}.${key}`)
    }
  }
}

function configurationPage(): string {
  const text = read(annotatedConfig)
  const sections = readSections(text)
  checkSections(sections)
  const introduction = text
    .slice(0, text.indexOf('\n\n'))
    .replace(/^# ?/gm, '')
    .replace('the short names given here as "Also NAME."', 'the short names, where there are any,')
  const parts = sections.map(({ name, about, settings }) => {
    const rows = settings.map(({ key, standard, shortName, meaning }) => {
      const names = code(`SLUICE_${name}__${key}`.toUpperCase()) + (shortName ? `, ${code(shortName)}` : '')
      return [code(key), standard === undefined ? 'not set' : code(standard), names, meaning]
    })
    return `## ${name}\n\n${about}\n\n${table(['Key', 'Default', 'Environment', 'Meaning'], rows)}\n`
  })
  return `<!-- Made by docs/generate.ts from ${annotatedConfig}. -->\n\n# Configuration\n\n${introduction}\n\n${parts.join('\n')}`
}

function simulatorPageWithTable(): string {
  const rows = Object.entries(scenarioFields).map(([name, field]) => [code(name), field.description ?? ''])
  const parts = /([\s\S]*<!-- scenario -->\n)[\s\S]*(<!-- end of scenario -->[\s\S]*)/.exec(read(simulatorPage))
  if (!parts) throw new Error(`${simulatorPage} has lost the marks around its table`)
  return `${parts[1]}\n${table(['Field', 'What it does'], rows)}\n\n${parts[2]}`
}

const pages: Record<string, () => string> = {
  'docs/errors.md': errorsPage,
  'docs/configuration.md': configurationPage,
  'docs/frames.schema.json': () => `${JSON.stringify(z.toJSONSchema(frameSchema), null, 2)}\n`,
  [simulatorPage]: simulatorPageWithTable,
}

const checkOnly = process.argv.includes('--check')
for (const [path, make] of Object.entries(pages)) {
  const text = make()
  if (!checkOnly) writeFileSync(join(root, path), text)
  else if (read(path) !== text) {
    process.stderr.write(`${path} is out of date: npm run docs\n`)
    process.exitCode = 1
  }
}
