/**
 * What can go wrong with a call: the sentence for Claude, and the name that stands in the log. Nothing in a sentence
 * comes from an exception.
 */
const sentences = {
  busy: 'The tool is busy with other calls, and this one was not made. It may be tried again later.',
  timeout: 'The tool did not answer in time.',
  unreachable: 'The tool cannot be reached at the moment.',
  refused_address: 'The tool cannot be reached.',
  redirect: 'The tool answered with a redirect, which is not followed.',
  status: 'The tool answered with an error.',
  refused: 'The tool refused the call.',
  encoding: "The tool's answer came compressed, which is not taken.",
  content_type: "The tool's answer has a content type that is not taken.",
  not_json: "The tool's answer is not valid JSON.",
  output_schema: "The tool's answer does not fit the schema that is declared for it.",
  too_large: "The tool's answer is larger than it may be.",
  cut_off: "The tool's answer was cut off before its end.",
  internal: 'The tool failed.',
} as const

export type FailureReason = keyof typeof sentences

/** A call that failed; the message is what Claude is told. */
export class ToolFailure extends Error {
  readonly reason: FailureReason
  /** For the log: short and machine-made. */
  readonly detail: string | undefined

  /** @param said by the tool itself, which Claude is told as well */
  constructor(reason: FailureReason, detail?: string | undefined, said = '') {
    super(said === '' ? sentences[reason] : `${sentences[reason]} It said: ${said}`)
    this.name = 'ToolFailure'
    this.reason = reason
    this.detail = detail
  }
}

/** Tools that are declared in a way that cannot work; says which, and quotes no secret. */
export class ToolsFault extends Error {}

/** What is told about tools to whoever runs Sluice. */
export interface ToolLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}
