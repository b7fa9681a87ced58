-- Sends the records of a file in order: eight digits of length, then a complete request.
-- Arguments: file, offset of the first record, requests per second for all connections together (0: as fast as it goes).

local file, last, pause_us, slot
local answers, refusals, without_retry_after = 0, 0, 0
local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  file = assert(io.open(args[1], "rb"))
  file:seek("set", tonumber(args[2] or "0"))
  local rate = tonumber(args[3] or "0")
  exhausted = 0
  accepted, refused, unannounced, others = 0, 0, 0, 0
  if rate > 0 then
    local ffi = require("ffi")
    ffi.cdef("typedef struct { long s; long us; } bench_time; int gettimeofday(bench_time *, void *);")
    local time = ffi.new("bench_time")
    local function now()
      ffi.C.gettimeofday(time, nil)
      return tonumber(time.s) * 1e6 + tonumber(time.us)
    end
    local step, slot = 1e6 / rate, 0
    -- Every request has its place in time, however long the answers before it took.
    delay = function()
      local at = now()
      if slot < at - 1e6 then slot = at end
      slot = slot + step
      return math.max(0, math.floor((slot - at) / 1000))
    end
    response = function(status, headers)
      if status == 200 then
        accepted = accepted + 1
      elseif status == 503 then
        refused = refused + 1
        if not (headers["retry-after"] or headers["Retry-After"]) then unannounced = unannounced + 1 end
      else
        others = others + 1
      end
    end
  end
end

function request()
  local size = file:read(8)
  if size then
    last = file:read(tonumber(size))
  else
    exhausted = exhausted + 1
    wrk.thread:stop()
  end
  return last
end

function done(summary, latency)
  local errors = summary.errors
  local total = { exhausted = 0, accepted = 0, refused = 0, unannounced = 0, others = 0 }
  for _, thread in ipairs(threads) do
    for name in pairs(total) do total[name] = total[name] + thread:get(name) end
  end
  io.write(string.format(
    'BENCH {"requests":%d,"microseconds":%d,"not_2xx":%d,"failed":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d,' ..
    '"exhausted":%d,"accepted":%d,"refused":%d,"unannounced":%d,"others":%d}\n',
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
    total.exhausted, total.accepted, total.refused, total.unannounced, total.others))
end
