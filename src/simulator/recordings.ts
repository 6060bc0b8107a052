import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Recorded streams that come with the simulator; `INDEX.md` beside them tells where each is from. */
const recordingsFolder = join(import.meta.dirname, 'recordings')

/** Recordings by name, without `.sse`: the raw bytes of the files. */
export function loadRecordings(folder: string = recordingsFolder): Map<string, Buffer> {
  const files = readdirSync(folder).filter((file) => file.endsWith('.sse'))
  return new Map(files.map((file) => [file.slice(0, -'.sse'.length), readFileSync(join(folder, file))]))
}
