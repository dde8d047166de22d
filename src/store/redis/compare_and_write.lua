-- One row of one view: written unless the stored one is newer.
--
-- KEYS: the entity's hash. ARGV: the field of the timestamp, the timestamp, '1' where an equal
-- one is overwritten, seconds to live or '0', when the fields expire (milliseconds) or '-1', then
-- field and value of each feature.
-- Gives 1: written, 0: the stored row stays, -1: what is stored is no timestamp.

-- The number at `at` and where the next one begins; numbers of 64 bits, the upper half negative.
local function varint(bytes, at)
  local low, high, scale, place = 0, 0, 1, 0
  while true do
    local byte = string.byte(bytes, at)
    if not byte or place == 10 then return nil end
    local bits = byte % 128
    if place == 7 then scale = 1 end
    if place < 7 then low = low + bits * scale else high = high + bits * scale end
    at, place, scale = at + 1, place + 1, scale * 128
    if byte < 128 then break end
  end
  -- 49 bits below, 15 above, of which the last is the sign.
  high = high % 32768
  if high >= 16384 then high = high - 32768 end
  return low + high * 562949953421312, at
end

local function timestamp(bytes)
  local seconds, nanos, at = 0, 0, 1
  while at <= #bytes do
    local tag, value = string.byte(bytes, at), nil
    value, at = varint(bytes, at + 1)
    if not value then return nil end
    if tag == 8 then seconds = value elseif tag == 16 then nanos = value else return nil end
  end
  return seconds, nanos
end

-- Errors go back as they are: older servers would wrap those of `redis.call` in words of their own.
local function is_error(reply)
  return type(reply) == 'table' and reply.err
end

local stored = redis.pcall('HGET', KEYS[1], ARGV[1])
if is_error(stored) then return stored end
if stored then
  local new_seconds, new_nanos = timestamp(ARGV[2])
  local seconds, nanos = timestamp(stored)
  if not seconds then return -1 end
  if new_seconds < seconds or new_seconds == seconds and new_nanos < nanos then return 0 end
  if new_seconds == seconds and new_nanos == nanos and ARGV[3] ~= '1' then return 0 end
end
-- Asked before anything is written: an older server does not know what follows.
if ARGV[5] ~= '-1' then
  local known = redis.pcall('HPEXPIRETIME', KEYS[1], 'FIELDS', 1, ARGV[1])
  if is_error(known) then return known end
end
-- What fits on Lua's stack; the timestamp last.
for first = 6, #ARGV, 2000 do
  local last = math.min(first + 1999, #ARGV)
  local done = redis.pcall('HSET', KEYS[1], unpack(ARGV, first, last))
  if is_error(done) then return done end
end
local done = redis.pcall('HSET', KEYS[1], ARGV[1], ARGV[2])
if is_error(done) then return done end
if ARGV[5] ~= '-1' then
  for at = 6, #ARGV, 2 do
    redis.call('HPEXPIREAT', KEYS[1], ARGV[5], 'FIELDS', 1, ARGV[at])
  end
  redis.call('HPEXPIREAT', KEYS[1], ARGV[5], 'FIELDS', 1, ARGV[1])
end
if ARGV[4] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[4]) end
return 1
