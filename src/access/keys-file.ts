import { readFileSync } from 'node:fs'
import { parse as parseYaml } from 'yaml'
import { FileWatch } from '../core/file-watch.ts'
import { type AccessKey, accessKeys, type Keyring } from './keyring.ts'

/** Why a list of keys cannot be used; quotes nothing of it. */
export class KeysFault extends Error {}

export interface KeysFileLog {
  info(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** Fills a keyring from the settings and from a file, whose changes it follows. */
export class KeysFile {
  readonly #ring: Keyring
  readonly #settled: readonly AccessKey[]
  readonly #path: string
  readonly #log: KeysFileLog
  readonly #watch: FileWatch

  /**
   * @param keys that are valid whatever the file says
   * @throws KeysFault
   */
  constructor(ring: Keyring, keys: readonly AccessKey[], path: string, log: KeysFileLog) {
    this.#ring = ring
    this.#settled = keys
    this.#path = path
    this.#log = log
    this.#watch = new FileWatch(path)
    this.#load()
  }

  /** Reads the file again. One that cannot be used changes nothing: it must neither let anybody in nor all be cut off. */
  reload(): void {
    try {
      const keys = this.#load()
      this.#log.info({ file: this.#path, keys }, 'access keys read')
    } catch (fault) {
      if (!(fault instanceof KeysFault)) throw fault
      this.#log.error({ reason: fault.message }, 'access keys cannot be read, the former ones stay valid')
    }
  }

  /**
   * Reads the file again if it has changed and not since the last look: half a file, as an editor leaves it for a
   * moment, is a list of fewer keys. To be called now and then.
   */
  look(): void {
    if (this.#watch.look()) this.reload()
  }

  /** @returns how many keys there are */
  #load(): number {
    this.#watch.mark()
    const keys = parseKeys(readKeys(this.#path), this.#path)
    const all = accessKeys.safeParse([...this.#settled, ...keys])
    if (!all.success) throw new KeysFault(`${this.#path}: holds a key that access.keys holds as well`)
    this.#ring.replace(all.data)
    return all.data.length
  }
}

function readKeys(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new KeysFault(`${path}: cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
}

const keyLine = /^(\S+)[ \t]+([0-9a-f]{64})(?:[ \t]+(tickets_for_others))?$/i

/**
 * Reads keys from lines of `<name> <sha256>`, with or without `tickets_for_others` behind, or from YAML: a list of
 * objects with these fields, also under `keys`.
 * @throws KeysFault, also when there is nothing: an empty file is one that is being written, `[]` means nobody
 */
export function parseKeys(text: string, path: string): AccessKey[] {
  const lines = text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
  if (lines.length === 0) throw new KeysFault(`${path}: is empty; write [] if nobody is to have a key`)
  const inLines = lines.map((line) => keyLine.exec(line))
  const list = inLines.every((each) => each !== null)
    ? inLines.map(([, name, sha256, right]) => ({ name, sha256, ...(right && { tickets_for_others: true }) }))
    : fromYaml(text, path)
  const parsed = accessKeys.safeParse(list)
  if (parsed.success) return parsed.data
  const faults = parsed.error.issues.map(({ path: [index, field], message }) => {
    const place = index === undefined ? '' : `key ${Number(index) + 1}: `
    return `${place}${field === undefined ? '' : `${String(field)} `}${message}`
  })
  throw new KeysFault(`${path}: ${faults.join('; ')}`)
}

function fromYaml(text: string, path: string): unknown[] {
  let tree: unknown
  try {
    tree = parseYaml(text, { logLevel: 'silent' })
  } catch {
    // What the parser says may quote the file: it is no list, either.
  }
  const list = Array.isArray(tree) ? tree : (tree as { keys?: unknown } | null | undefined)?.keys
  if (Array.isArray(list)) return list
  throw new KeysFault(`${path}: holds neither lines of a name and a SHA-256 nor a list of keys in YAML`)
}
