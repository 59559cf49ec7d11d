export function verifyRoutes(_a: unknown, _b: unknown): void {}
