import { readFileSync } from 'node:fs'
import { ToolsFault } from './failures.ts'

/**
 * What stands in a file beside the configuration, without the line break at its end; `undefined` without a file.
 * @param least how many characters it must have
 * @throws ToolsFault, which names the file and quotes nothing of it
 */
export function readSecret(path: string | undefined, least = 1): string | undefined {
  if (path === undefined) return undefined
  let text: string
  try {
    text = readFileSync(path, 'utf8').trim()
  } catch (error) {
    throw new ToolsFault(`${path} cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
  if (text.length < least) throw new ToolsFault(`${path} holds less than ${least} characters`)
  return text
}
