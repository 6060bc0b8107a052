/**
 * Writes the pages and tables that are made from the code, so that they cannot say anything else: `docs/errors.md`, `docs/cli.md`,
 * `docs/configuration.md`, `docs/frames.schema.json`, the scenario table of `docs/simulator.md` and the table of
 * `docs/metrics.md`. With `--check` it writes nothing and names what is out of date.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { exits, optionForm } from '../src/commands/help.ts'
import { commands } from '../src/commands/registry.ts'
import { loadConfig } from '../src/config.ts'
import { errorTable } from '../src/core/errors.ts'
import { frameSchema } from '../src/core/frames.ts'
import { scenarioFields } from '../src/simulator/scenario.ts'
import { catalogue, type Described } from '../src/telemetry/metrics/catalogue.ts'

const root = join(import.meta.dirname, '..')
const annotatedConfig = 'config/sluice.yaml'
const simulatorPage = 'docs/simulator.md'
const metricsPage = 'docs/metrics.md'

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
  return `<!-- Made by docs/generate.ts from src/core/error-table.ts. -->

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
const settingLine = /^#?( {2}| {4})?([a-z_]+):(?: (.*))?$/

/** Reads the annotated configuration by lines, as what it says in comments is half of it. */
function readSections(text: string): Section[] {
  const sections: Section[] = []
  let comment: string[] = []
  /** A key that has keys of its own. What is said of it stands before the first of them. */
  let group = { name: '', about: '' }
  for (const line of text.split('\n')) {
    const [matched, indent, name = '', value] = settingLine.exec(line) ?? []
    const about = comment.join(' ')
    comment = matched !== undefined || line === '' ? [] : [...comment, line.replace(/^ *# ?/, '')]
    if (matched === undefined) continue
    if (indent === undefined) sections.push({ name, about, settings: [] })
    else if (value === undefined) group = { name: `${name}.`, about: `${about} ` }
    else {
      if (indent.length === 2) group = { name: '', about: '' }
      const standard = line.startsWith('#') ? undefined : value
      sections.at(-1)?.settings.push(toSetting(group.name + name, standard, group.about + about))
      group.about = ''
    }
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
      if (!listed.some((name) => name === key || name.startsWith(`${key}.`)))
        throw new Error(`${annotatedConfig} lacks ${section}.${key}`)
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
      const names =
        code(`SLUICE_${name}__${key.replace('.', '__')}`.toUpperCase()) + (shortName ? `, ${code(shortName)}` : '')
      return [code(key), standard === undefined ? 'not set' : code(standard), names, meaning]
    })
    const keys = rows.length > 0 ? `\n${table(['Key', 'Default', 'Environment', 'Meaning'], rows)}\n` : ''
    return `## ${name}\n\n${about}\n${keys}`
  })
  return `<!-- Made by docs/generate.ts from ${annotatedConfig}. -->\n\n# Configuration\n\n${introduction}\n\n${parts.join('\n')}`
}

function commandsPage(): string {
  const parts = commands.map(({ name, form, summary, options = {}, details, examples = [] }) => {
    const rows = Object.entries(options).map((entry) => [code(optionForm(...entry)), entry[1].says])
    const tried = examples.map(([line, says]) => `# ${says}\n${line}`).join('\n')
    return [
      `## sluice ${name}`,
      `${summary[0]?.toUpperCase()}${summary.slice(1)}${form ? `: ${code(`sluice ${name} ${form}`)}` : ''}.`,
      rows.length > 0 && table(['Option', 'What'], rows),
      details,
      tried && `\`\`\`sh\n${tried}\n\`\`\``,
    ]
      .filter((part) => part)
      .join('\n\n')
  })
  const codes = table(
    ['Exit code', 'Meaning'],
    exits.map(([exit, meaning]) => [String(exit), meaning]),
  )
  return `<!-- Made by docs/generate.ts from src/commands. -->

# The command line

From a checkout it is \`npx node src/cli.ts COMMAND\`, installed \`sluice COMMAND\`; without a command it is \`serve\`. Each has
\`--help\`, \`sluice help COMMAND\` says the same, and \`sluice --version\` the version. Settings come from the environment and
from the file that \`SLUICE_CONFIG\` names: [configuration](configuration.md). More is in [the simulated
Claude](simulator.md) (\`simulate\`, \`record\`), [the doctor](doctor.md), [access](access.md) (\`keys\`) and [kinds of
tools](tool-kinds.md) (\`tools\`).

${parts.join('\n\n')}

## Exit codes

${codes}
`
}

function simulatorPageWithTable(): string {
  const rows = Object.entries(scenarioFields).map(([name, field]) => [code(name), field.description ?? ''])
  return between(simulatorPage, 'scenario', table(['Field', 'What it does'], rows))
}

function metricsPageWithTable(): string {
  const rows = Object.entries<Described>(catalogue).map(([name, { type, help, labels = [] }]) => {
    const told = labels.filter((label) => label !== 'gen_ai_operation_name' && label !== 'gen_ai_provider_name')
    return [code(name), type, told.map(code).join(', '), help]
  })
  return between(metricsPage, 'catalogue', table(['Name', 'Type', 'Labels', 'What it is'], rows))
}

/** A page with `content` between its marks `<!-- name -->` and `<!-- end of name -->`. */
function between(page: string, name: string, content: string): string {
  const [before, rest = ''] = read(page).split(`<!-- ${name} -->\n`)
  const [, after] = rest.split(`<!-- end of ${name} -->`)
  if (after === undefined) throw new Error(`${page} has lost the marks around its table`)
  return `${before}<!-- ${name} -->\n\n${content}\n\n<!-- end of ${name} -->${after}`
}

const pages: Record<string, () => string> = {
  'docs/errors.md': errorsPage,
  'docs/cli.md': commandsPage,
  'docs/configuration.md': configurationPage,
  'docs/frames.schema.json': () => `${JSON.stringify(z.toJSONSchema(frameSchema), null, 2)}\n`,
  [simulatorPage]: simulatorPageWithTable,
  [metricsPage]: metricsPageWithTable,
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
