import { readdirSync, readFileSync } from 'node:fs'

/** Of `/proc/<pid>/stat`: Linux reports CPU time in this unit whatever the kernel's own tick is. */
const ticksPerSecond = 100
const pageBytes = 4096

interface Stat {
  readonly parent: number
  readonly cpuSeconds: number
}

function stat(pid: number): Stat | undefined {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return undefined
  }
  // The second field is the program's name, in parentheses, which may hold blanks and parentheses.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return { parent: Number(fields[1]), cpuSeconds: (Number(fields[11]) + Number(fields[12])) / ticksPerSecond }
}

/** A process and all that descend from it: servers with worker processes count whole. */
export function processTree(root: number): number[] {
  const children = Map.groupBy(
    readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number),
    (pid) => stat(pid)?.parent,
  )
  const tree = [root]
  for (const pid of tree) tree.push(...(children.get(pid) ?? []))
  return tree
}

/** CPU time, user and system, that these processes have used. */
export function cpuSeconds(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + (stat(pid)?.cpuSeconds ?? 0), 0)
}

/** CPU time that the whole machine has used, whoever for, or has had stolen by its host. */
export function machineSeconds(): number {
  const [user = 0, nice = 0, system = 0, _idle, _wait, interrupt = 0, softInterrupt = 0, stolen = 0] = readFileSync(
    '/proc/stat',
    'latin1',
  )
    .slice('cpu '.length, 200)
    .trim()
    .split(/\s+/)
    .map(Number)
  return (user + nice + system + interrupt + softInterrupt + stolen) / ticksPerSecond
}

/** Memory that these processes hold, resident. */
export function residentBytes(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + residentPages(pid) * pageBytes, 0)
}

function residentPages(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ')[1])
  } catch {
    return 0
  }
}
