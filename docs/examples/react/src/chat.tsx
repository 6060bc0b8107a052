import { type FormEvent, useEffect, useState } from 'react'
import { type Block, useSluice } from 'sluice/react'

const clock = {
  name: 'clock',
  description: 'The time of a place',
  input_schema: { type: 'object', properties: { location: { type: 'string' } }, required: ['location'] },
}

export function Chat() {
  const chat = useSluice({ url: '/sluice/stream', body: { tools: [clock] }, persist: 'kitchen' })
  const { messages, status, toolCalls, error, usage, send, stop, resume, answerTool } = chat
  const [draft, setDraft] = useState('')

  // This page runs the tool by itself; another one might ask first.
  useEffect(() => {
    const call = toolCalls.find(({ pending }) => pending)
    if (call) answerTool(call.id, 'half past nine')
  }, [toolCalls, answerTool])

  function ask(event: FormEvent) {
    event.preventDefault()
    send(draft)
    setDraft('')
  }

  const busy = status === 'submitted' || status === 'streaming'
  return (
    <form onSubmit={ask}>
      {messages.map(({ id, role, content }) => (
        <p key={id} className={role}>
          {content.map(textOf).join('')}
        </p>
      ))}
      <output>{error ? `failed: ${error.message}` : status}</output>
      <small>{usage && `${usage.output_tokens} tokens`}</small>
      <input value={draft} onChange={(event) => setDraft(event.target.value)} />
      <button type="submit" disabled={busy}>
        Send
      </button>
      <button type="button" onClick={stop} disabled={!busy}>
        Stop
      </button>
      {error?.code === 'connection_lost' && (
        <button type="button" onClick={resume}>
          Go on
        </button>
      )}
    </form>
  )
}

function textOf(block: Block): string {
  if (block.type === 'text') return String(block.text)
  return block.type === 'tool_use' ? `[${block.name}]` : ''
}
