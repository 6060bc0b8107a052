import { z } from 'zod'

/** A time in the settings: not longer than a timer can be. */
export const milliseconds = (standard: number, least = 1) =>
  z
    .int()
    .min(least)
    .max(2 ** 31 - 1)
    .default(standard)
