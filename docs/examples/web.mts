/**
 * A web app beside Sluice: it serves one page, and the page talks to Sluice by itself.
 *
 *     npx node docs/examples/web.mts [port] [URL of Sluice as the browser sees it] [address to listen on]
 *
 * npx takes the Node 24 that `npm ci` has brought: an older one does not run TypeScript. Sluice must know the page's
 * origin:
 *
 *     CORS_ORIGINS=http://localhost:3000 npm run demo
 */
import { createServer } from 'node:http'

const [port = '3000', sluice = 'http://localhost:8787', host = '127.0.0.1'] = process.argv.slice(2)

const page = `<!doctype html>
<meta charset="utf-8">
<title>Ask Claude</title>
<form><input name="prompt" size="60" required value="What is a sluice?"> <button>Ask</button></form>
<button id="stop" disabled>Stop</button>
<pre style="white-space: pre-wrap"></pre>
<p></p>
<script type="module">
  const sluice = ${JSON.stringify(sluice)}
  const answer = document.querySelector('pre')
  const status = document.querySelector('p')
  const stop = document.querySelector('#stop')

  document.querySelector('form').addEventListener('submit', (event) => {
    event.preventDefault()
    ask(event.target.elements.prompt.value)
  })

  // One question at a time: a new one stops the one before it.
  let finish = () => {}

  function ask(prompt) {
    stop.onclick?.()
    finish()
    answer.textContent = status.textContent = ''
    // However often the browser has to connect, the same key is the same answer: Claude is asked once.
    const query = new URLSearchParams({ prompt, key: crypto.randomUUID() })
    const source = new EventSource(sluice + '/stream?' + query)
    let stream
    stop.disabled = false
    stop.onclick = () => {
      if (stream) return fetch(sluice + '/streams/' + stream, { method: 'DELETE' })
      // Nothing has come yet: an answer that nobody reads is cancelled after a while.
      status.textContent = 'Given up.'
      finish()
    }

    source.onopen = () => {
      status.textContent = ''
    }
    source.onmessage = ({ data }) => {
      // Closed here, the browser does not come back to ask whether there is more.
      if (data === '[DONE]') return finish()
      const frame = JSON.parse(data)
      if (frame.type === 'start') stream = frame.stream
      if (frame.type === 'text') answer.append(frame.text)
      if (frame.type === 'error') status.textContent = frame.error.message
      if (frame.type === 'cancelled') status.textContent = 'Stopped.'
      if (frame.type === 'done') status.textContent = frame.usage.output_tokens + ' tokens'
    }
    source.onerror = () => {
      if (source.readyState === EventSource.CONNECTING) {
        // The browser comes back by itself.
        status.textContent = 'The connection is lost. Trying again …'
        return
      }
      status.textContent = 'Sluice refused the request: is ' + location.origin + ' in its CORS_ORIGINS?'
      finish()
    }
    finish = () => {
      source.close()
      stop.disabled = true
      stop.onclick = null
    }
  }
</script>
`

const server = createServer((request, response) => {
  if (request.url !== '/') return void response.writeHead(404).end()
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page)
})
server.listen(Number(port), host)
process.on('SIGTERM', () => server.close())
