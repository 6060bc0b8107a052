import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire, stripTypeScriptTypes } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A file as browsers get it. */
export interface PageFile {
  readonly type: string
  readonly text: string
  readonly etag: string
}

/** The root of the sources, or of what was compiled from them. */
const root = join(dirname(fileURLToPath(import.meta.url)), '..')
/** `.ts` when this runs from the sources, whose types are taken away; `.js` when it was compiled. */
const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js'

const pages = { '/': 'index', '/ops': 'ops', '/doctor': 'doctor' } as const
const scripts = ['theme', 'play', 'ops', 'doctor']
const others = {
  'style.css': 'text/css',
  'play.css': 'text/css',
  'doctor.css': 'text/css',
  'ops.css': 'text/css',
  'icon.svg': 'image/svg+xml',
}
/** Packages that the pages use: each is one module, and those beside it. */
const packages = ['eventsource-parser']

/** Below it are all files that are no pages. */
const assetPath = '/pages/'

const specifier = /(\bfrom\s*|\bimport\s*)(['"])([^'"\n]+)\2/g

/**
 * All that there is for browsers, by its path: a fixed set, read once. A request is looked up in it and never becomes a
 * path of the file system.
 */
export function readPageFiles(): ReadonlyMap<string, PageFile> {
  const files = new Map<string, PageFile>()
  for (const [path, name] of Object.entries(pages)) {
    files.set(path, fileOf('text/html', readFileSync(join(root, 'playground', `${name}.html`), 'utf8')))
  }
  for (const [name, type] of Object.entries(others)) {
    files.set(`${assetPath}playground/${name}`, fileOf(type, readFileSync(join(root, 'playground', name), 'utf8')))
  }
  for (const name of scripts) addModule(files, join(root, 'playground', name + extension))
  return files
}

/** Adds a module and all that it imports: nothing else of the server is there to be had. */
function addModule(files: Map<string, PageFile>, file: string): void {
  const path = pathOf(file)
  if (files.has(path)) return
  const source = readFileSync(file, 'utf8')
  const imported: string[] = []
  const text = (file.endsWith('.ts') ? stripTypeScriptTypes(source) : source).replace(
    specifier,
    (whole, keyword: string, quote: string, target: string) => {
      const found = target.startsWith('.') ? join(dirname(file), target) : entryOf(target)
      if (found === undefined) return whole
      imported.push(found)
      return `${keyword}${quote}${urlBetween(path, pathOf(found))}${quote}`
    },
  )
  files.set(path, fileOf('text/javascript', text))
  for (const each of imported) addModule(files, each)
}

/** The file of a package that ES modules get. */
function entryOf(name: string): string | undefined {
  return packages.includes(name) ? createRequire(import.meta.url).resolve(name) : undefined
}

function pathOf(file: string): string {
  for (const name of packages) {
    const folder = dirname(entryOf(name) as string)
    if (file.startsWith(folder)) return `${assetPath}packages/${name}/${relative(folder, file)}`
  }
  return assetPath + relative(root, file).replace(/\.ts$/, '.js')
}

function urlBetween(from: string, to: string): string {
  const path = relative(dirname(from), to)
  return path.startsWith('.') ? path : `./${path}`
}

function fileOf(type: string, text: string): PageFile {
  const etag = `"${createHash('sha256').update(text).digest('base64url').slice(0, 22)}"`
  return { type: `${type}; charset=utf-8`, text, etag }
}
