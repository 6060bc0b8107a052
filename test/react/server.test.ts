import { createElement } from 'react'
import { renderToString } from 'react-dom/server'
import { expect, it } from 'vitest'
import { useSluice } from '../../src/react/use-sluice.ts'

it('renders on a server, where there is no page and nothing to ask', () => {
  expect(globalThis).not.toHaveProperty('window')
  function Chat() {
    const { messages, status, text } = useSluice({ url: '/stream', persist: 'chat', id: 's_AAAAAAAAAAAAAAAAAAAAAA' })
    return createElement('p', {}, `${messages.length} ${status} ${text}`)
  }
  expect(renderToString(createElement(Chat))).toBe('<p>0 ready </p>')
})
