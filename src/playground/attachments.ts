import type { Block } from '../client/stream.ts'
import { button, h } from './dom.ts'

const images = ['image/png', 'image/jpeg', 'image/gif', 'image/webp']
const pdf = 'application/pdf'
/** Of all files of one message: in base64 they must fit into a request of ten megabytes. */
const mostBytes = 7 * 1_024 * 1_024

/** Files that go along with the next message. */
export class Attachments {
  readonly #list: HTMLElement
  readonly #complain: (text: string) => void
  #files: { readonly file: File; readonly block: Block }[] = []

  constructor(list: HTMLElement, complain: (text: string) => void) {
    this.#list = list
    this.#complain = complain
  }

  get blocks(): Block[] {
    return this.#files.map(({ block }) => block)
  }

  async add(files: Iterable<File>): Promise<void> {
    for (const file of files) {
      const total = this.#files.reduce((sum, { file }) => sum + file.size, file.size)
      if (!images.includes(file.type) && file.type !== pdf)
        this.#complain(`${file.name} is neither an image that Claude knows nor a PDF.`)
      else if (total > mostBytes) this.#complain(`${file.name} is too large: all files of a message may have 7 MB.`)
      else this.#files.push({ file, block: await blockOf(file) })
    }
    this.#draw()
  }

  /** From a dialog that a button opens, or pasted into a text. */
  takeFrom(input: HTMLInputElement, opener: HTMLElement, text: HTMLElement): void {
    opener.addEventListener('click', () => input.click())
    input.addEventListener('change', () => {
      void this.add([...(input.files ?? [])])
      input.value = ''
    })
    text.addEventListener('paste', (event) => void this.add([...(event.clipboardData?.files ?? [])]))
  }

  clear(): void {
    this.#files = []
    this.#draw()
  }

  #draw(): void {
    this.#list.hidden = this.#files.length === 0
    this.#list.replaceChildren(...this.#files.map((each) => this.#chip(each)))
  }

  #chip(each: { readonly file: File }): HTMLElement {
    const remove = button('×', () => {
      this.#files = this.#files.filter((other) => other !== each)
      this.#draw()
    })
    remove.className = 'remove'
    remove.setAttribute('aria-label', `Remove ${each.file.name}`)
    return h(
      'span',
      { class: 'chip' },
      preview(each.file),
      `${each.file.name} · ${Math.ceil(each.file.size / 1_024)} KB`,
      remove,
    )
  }
}

async function blockOf(file: File): Promise<Block> {
  const source = { type: 'base64', media_type: file.type, data: base64(new Uint8Array(await file.arrayBuffer())) }
  return file.type === pdf ? { type: 'document', source, title: file.name } : { type: 'image', source }
}

function base64(bytes: Uint8Array): string {
  let text = ''
  for (let at = 0; at < bytes.length; at += 32_768) text += String.fromCharCode(...bytes.subarray(at, at + 32_768))
  return btoa(text)
}

/** Drawn, not loaded: the page may load no image but its own. */
function preview(file: File): HTMLElement | undefined {
  if (!images.includes(file.type)) return undefined
  const canvas = h('canvas', { width: '40', height: '40', 'aria-hidden': 'true' })
  createImageBitmap(file).then(
    (image) => {
      const scale = Math.max(40 / image.width, 40 / image.height)
      const [width, height] = [image.width * scale, image.height * scale]
      canvas.getContext('2d')?.drawImage(image, (40 - width) / 2, (40 - height) / 2, width, height)
      image.close()
    },
    () => canvas.remove(),
  )
  return canvas
}
