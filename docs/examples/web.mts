/**
 * A web app beside Sluice: it serves one page, and the page talks to Sluice by itself.
 *
 *     node docs/examples/web.mts [port] [URL of Sluice as the browser sees it] [address to listen on]
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
    const source = new EventSource(sluice + '/stream?' + new URLSearchParams({ prompt }))
    let stream
    stop.onclick = () => stream && fetch(sluice + '/streams/' + stream, { method: 'DELETE' })

    source.onmessage = ({ data }) => {
      // Closed here, the browser does not come back to ask whether there is more.
      if (data === '[DONE]') return finish()
      const frame = JSON.parse(data)
      if (frame.type === 'start') {
        stream = frame.stream
        stop.disabled = false
      }
      if (frame.type === 'text') answer.append(frame.text)
      if (frame.type === 'error') status.textContent = frame.error.message
      if (frame.type === 'cancelled') status.textContent = 'Stopped.'
      if (frame.type === 'done') status.textContent = frame.usage.output_tokens + ' tokens'
    }
    source.onerror = () => {
      // With an id the browser resumes by itself. Without one it would ask, and pay, a second time.
      if (stream && source.readyState !== EventSource.CLOSED) return
      status.textContent = 'Sluice refused the request or cannot be reached.'
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
