-- For wrk: posts the lines of a file in turn, honours Retry-After, and prints what came back as one line of JSON.
-- One connection per thread, so that a pause after 429 is that of the client that was turned away. wrk's own latencies
-- are of all answers; here they are of the digests alone, taken at the same two moments.

local ffi = require("ffi")
ffi.cdef("typedef struct { long s, ns; } moment; int clock_gettime(int, moment *);")
local moment = ffi.new("moment")
local MONOTONIC = 1

local function now()
  ffi.C.clock_gettime(MONOTONIC, moment)
  return tonumber(moment.s) + tonumber(moment.ns) / 1e9
end

local threads = {}

function setup(thread)
  thread:set("first", #threads)
  table.insert(threads, thread)
end

function init(args)
  bodies = {}
  for line in io.lines(args[1]) do
    bodies[#bodies + 1] = line
  end
  position = first * 7 -- clients begin at different documents
  pause = 0
  turned_away, failed = 0, 0
  latencies = {}
end

function delay()
  local milliseconds = pause
  pause = 0
  return milliseconds
end

function request()
  position = position % #bodies + 1
  sent = now()
  return wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, bodies[position])
end

function response(status, headers)
  if status == 200 then
    latencies[#latencies + 1] = now() - sent
  elseif status == 429 then
    turned_away = turned_away + 1
    pause = 1000 * tonumber(headers["retry-after"])
  else
    failed = failed + 1
  end
end

function done(summary)
  local turned_away, failed, latencies = 0, 0, {}
  for _, thread in ipairs(threads) do
    turned_away = turned_away + thread:get("turned_away")
    failed = failed + thread:get("failed")
    for _, latency in ipairs(thread:get("latencies")) do
      latencies[#latencies + 1] = latency
    end
  end
  table.sort(latencies)
  local function percentile(share)
    return latencies[math.max(1, math.ceil(share * #latencies))] or 0
  end
  local errors = summary.errors
  failed = failed + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '{"seconds": %f, "answered": %d, "turned_away": %d, "failed": %d, "p50": %f, "p95": %f, "p99": %f}\n',
    summary.duration / 1e6, #latencies, turned_away, failed, percentile(0.5), percentile(0.95), percentile(0.99)
  ))
end
