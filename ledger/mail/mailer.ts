import { createTransport } from 'nodemailer'

export type Mail = { readonly to: string; readonly subject: string; readonly text: string }
/** Sends one letter; rejects where the server did not take it. */
export type SendMail = (mail: Mail) => Promise<void>

const TIMEOUT_MS = 10_000

/** `url`: `smtp://USER:PASSWORD@HOST:587` (STARTTLS where the server offers it) or `smtps://…`. */
export function createMailer(url: string, from: string): { send: SendMail; close(): void } {
  const transport = createTransport(url, {
    from,
    connectionTimeout: TIMEOUT_MS,
    greetingTimeout: TIMEOUT_MS,
    socketTimeout: TIMEOUT_MS,
    // A letter is text that we write: nothing of it is to be fetched or read from a file.
    disableFileAccess: true,
    disableUrlAccess: true,
  } as object)
  return {
    async send({ to, subject, text }) {
      await transport.sendMail({
        to: { name: '', address: to },
        subject,
        text,
        headers: { 'Auto-Submitted': 'auto-generated' },
      })
    },
    close: () => transport.close(),
  }
}
