-- What wrk sends: requests made once, cycled through, so that making them costs nothing.
--   wrk ... -s requests.lua URL -- KIND [KEYS]
-- KIND: put, get (metastore); etcd-put, etcd-get (etcd's JSON gateway).
-- Ends with one line that bench.py reads.

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
   local out = {}
   for i = 1, #text, 3 do
      local a, b, c = text:byte(i, i + 2)
      local bits = a * 65536 + (b or 0) * 256 + (c or 0)
      local quad = ""
      for shift = 3, 0, -1 do
         local digit = math.floor(bits / 64 ^ shift) % 64
         quad = quad .. alphabet:sub(digit + 1, digit + 1)
      end
      if not b then
         quad = quad:sub(1, 2) .. "=="
      elseif not c then
         quad = quad:sub(1, 3) .. "="
      end
      out[#out + 1] = quad
   end
   return table.concat(out)
end

local value = string.rep("v", 128)
local requests = {}
local position = 0

local function make(kind, key)
   if kind == "put" then
      return wrk.format("PUT", key, {}, value)
   elseif kind == "get" then
      return wrk.format("GET", key)
   elseif kind == "etcd-put" then
      return wrk.format("POST", "/v3/kv/put", { ["Content-Type"] = "application/json" },
         string.format('{"key":"%s","value":"%s"}', base64(key), base64(value)))
   elseif kind == "etcd-get" then
      return wrk.format("POST", "/v3/kv/range", { ["Content-Type"] = "application/json" },
         string.format('{"key":"%s"}', base64(key)))
   end
   error("unknown kind " .. tostring(kind))
end

function init(args)
   local keys = tonumber(args[2]) or 10000
   for i = 1, keys do
      requests[i] = make(args[1], string.format("/bench/%09d", i))
   end
end

function request()
   position = position % #requests + 1
   return requests[position]
end

function done(summary, latency)
   local e = summary.errors
   print(string.format("RESULT requests=%d duration_us=%d errors=%d p50_us=%d p99_us=%d",
      summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
      latency:percentile(50), latency:percentile(99)))
end
