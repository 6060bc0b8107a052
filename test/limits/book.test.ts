import { describe, expect, it } from 'vitest'
import { Book } from '../../src/limits/book.ts'
import { amount, Clock, wish } from './places.ts'

describe('a book', () => {
  it('forgets those who have nothing running and nothing used, however many addresses come', () => {
    const clock = new Clock()
    const book = new Book(clock.now)
    const limits = { requests_per_minute: 10, concurrent_streams: 2 }
    let most = 0
    for (let n = 0; n < 50_000; n++) {
      const each = wish(`address ${n}`, limits)
      book.take(each)
      book.settle(each.stream, amount(5))
      // Six seconds bring back what one request took.
      if (n % 100 === 0) clock.at += 6_000
      most = Math.max(most, book.size)
    }
    expect(most).toBeLessThan(500)
  })

  it('keeps those who have spent something until midnight, and whoever has a stream', () => {
    const clock = new Clock()
    const book = new Book(clock.now)
    const limits = { tokens_per_day: 100 }
    const running = wish('running', limits, 5)
    book.take(running)
    for (let n = 0; n < 100; n++) {
      const each = wish(`address ${n}`, limits, 5)
      book.take(each)
      book.settle(each.stream, amount(5))
    }
    expect(book.size).toBe(101)
    clock.at += 86_400_000
    for (let n = 0; n < 100; n++) book.take({ ...wish('other', { requests_per_minute: 1e6 }), stream: undefined })
    expect(book.size).toBe(2)
    book.settle(running.stream, amount(5))
    clock.at += 86_400_000
    for (let n = 0; n < 3; n++) book.take({ ...wish('other', { requests_per_minute: 1e6 }), stream: undefined })
    expect(book.size).toBe(1)
  })

  it('keeps nothing of those whom it refuses, and of those who only look', () => {
    const book = new Book(new Clock().now)
    const limits = { concurrent_streams: 1 }
    const all = wish('all', limits)
    book.take(all)
    for (let n = 0; n < 1_000; n++) {
      const parties = [{ account: `address ${n}`, limits }, ...all.parties]
      expect(book.take({ ...wish('', {}), parties }).refusal).toBeDefined()
      book.look(parties)
    }
    expect(book.size).toBe(1)
  })
})
