-- Reads the paths of a file, one a line, in random order. Arguments: file, a header line or nothing.

local requests = {}

function init(args)
  local header = args[2] or ""
  if header ~= "" then header = header .. "\r\n" end
  for path in io.lines(args[1]) do
    requests[#requests + 1] = "GET " .. path .. " HTTP/1.1\r\nHost: 127.0.0.1\r\n" .. header .. "\r\n"
  end
  math.randomseed(7)
end

function request()
  return requests[math.random(#requests)]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'BENCH {"requests":%d,"microseconds":%d,"not_2xx":%d,"failed":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d}\n',
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
