/** What was written behind a command's name. */
export interface Arguments {
  readonly values: Readonly<Record<string, string | boolean | undefined>>
  readonly words: readonly string[]
}

/** What `--name` takes and means. */
export interface Option {
  readonly type: 'string' | 'boolean'
  /** How its value is called in help, such as `URL`. */
  readonly value?: string
  /** Half a sentence, with the default where there is one. */
  readonly says: string
}

/** A command line to try, and what for. */
export type Example = readonly [line: string, says: string]

/** One word of the command line and what it does. */
export interface Command {
  readonly name: string
  /** What stands behind the name, such as `new [name]`. */
  readonly form?: string
  /** For the list of all commands: half a sentence. */
  readonly summary: string
  readonly options?: Readonly<Record<string, Option>>
  /** What else is to be known, in sentences. */
  readonly details?: string
  readonly examples?: readonly Example[]
  run(args: Arguments): void | Promise<void>
}

/** The command line itself is wrong: exit code 64, and the way to write it. */
export class UsageError extends Error {}

/** Where a Sluice listens that nobody has told otherwise. */
export const standardUrl = 'http://127.0.0.1:8787'

export const print = (text: string) => void process.stdout.write(text)
export const complain = (text: string) => void process.stderr.write(text)

/** @throws UsageError when there are words that the command has no use for */
export function noWords({ words }: Arguments): void {
  if (words.length > 0) throw new UsageError(`too many words: ${words.join(' ')}`)
}

/** @throws UsageError */
export function wholeNumber(name: string, text: unknown, standard: number): number {
  if (text === undefined) return standard
  if (typeof text !== 'string' || !/^\d{1,9}$/.test(text)) throw new UsageError(`--${name} takes a whole number`)
  return Number(text)
}

/** @throws UsageError */
export function httpUrl(name: string, text: string): string {
  if (URL.canParse(text) && /^https?:/i.test(text)) return text
  throw new UsageError(`--${name} takes an http or https URL`)
}

export function textOf(value: string | boolean | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}
