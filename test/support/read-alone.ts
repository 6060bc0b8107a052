import { type Reading, readWithClient } from './read-with-client.ts'

/** A program for Node, Deno and Bun: reads what its argument says, and prints what came of it. */
const outcome = await readWithClient(JSON.parse(process.argv[2] as string) as Reading)
process.stdout.write(JSON.stringify(outcome))
