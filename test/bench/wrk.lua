-- Asks for a thousand paths in turn; prints one line of JSON at the end. wrk counts statuses above 399 as errors.
local paths = 1000
local requests = {}
local at = 0

function init(args)
  for i = 1, paths do
    requests[i] = wrk.format("GET", args[1] .. i, { ["Accept"] = "application/json", ["User-Agent"] = "bench" })
  end
end

function request()
  at = at % paths + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"p50Ms":%.3f,"p99Ms":%.3f,"failures":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
