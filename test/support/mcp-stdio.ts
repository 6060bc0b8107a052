/** An MCP server over standard input and output, for tests to start as a process. */
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import { mcpServer, newState } from './mcp-tools.ts'

const mode = process.argv[2]
const state = newState()
state.onChange = (server) => void server.sendToolListChanged()

if (mode === 'flood') {
  const flood = () => {
    while (process.stdout.write('x'.repeat(65_536)));
  }
  process.stdout.on('drain', flood)
  flood()
} else if (mode === 'deaf') {
  // Neither answers nor ends with its input.
  setInterval(() => {}, 1_000)
} else {
  process.stderr.write('a line that is nobody else\u2019s business\n')
  serveStdio(() => mcpServer(state))
}
