import { byId } from './dom.ts'

/** The key of whoever sits here: in memory, in this tab's storage if he says so, in headers, and nowhere else. */
export class KeyDialog {
  readonly #name: string
  readonly #dialog = byId<HTMLDialogElement>('key-dialog')
  readonly #input = byId<HTMLInputElement>('key')
  readonly #keep = byId<HTMLInputElement>('key-keep')
  #key: string | undefined

  /**
   * @param name under which it is kept
   * @param onKey a key has been given, or taken away
   */
  constructor(name: string, onKey: () => void) {
    this.#name = name
    this.#key = sessionStorage.getItem(name) ?? undefined
    this.#keep.checked = this.#key !== undefined
    byId('key-button').addEventListener('click', () => this.ask())
    byId('key-cancel').addEventListener('click', () => this.#dialog.close())
    byId('key-form').addEventListener('submit', () => {
      this.#set(this.#input.value.trim())
      this.#input.value = ''
      onKey()
    })
    this.#show()
  }

  get isThere(): boolean {
    return this.#key !== undefined
  }

  /** Request headers. */
  readonly headers = (): Record<string, string> =>
    this.#key === undefined ? {} : { authorization: `Bearer ${this.#key}` }

  ask(): void {
    if (!this.#dialog.open) this.#dialog.showModal()
    this.#input.focus()
  }

  #set(key: string): void {
    this.#key = key === '' ? undefined : key
    if (this.#key !== undefined && this.#keep.checked) sessionStorage.setItem(this.#name, this.#key)
    else sessionStorage.removeItem(this.#name)
    this.#show()
  }

  #show(): void {
    const button = byId('key-button')
    button.textContent = this.isThere ? 'Key ✓' : 'Key'
    button.setAttribute('aria-label', this.isThere ? 'Access key, given' : 'Access key, none given')
  }
}
