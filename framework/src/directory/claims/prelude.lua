-- Goes before each script of the claims, and gives names to what each is handed.
--
-- A claim is kept as "<epoch> <owner>", an owner as "<node>:<incarnation>". A claim is in the set
-- `owned` of its owner and of nobody else. `epoch` is the greatest epoch there has been.
-- All scripts may be run twice: whoever got no answer asks again.
local GENERATION, SETTLING, EPOCH, OWNERS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local LEASE, OWNED, DEAD = KEYS[5], KEYS[6], KEYS[7] -- of ME
local ME, LEASE_MS, SETTLING_MS, DEAD_MS = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local CANDIDATE = ARGV[5]

-- False for a dead incarnation. Any other lives for another lease: it has just spoken.
-- Where no generation is, the data were lost, or there never were any.
local function lives()
  if redis.call('EXISTS', DEAD) == 1 then return false end
  if redis.call('SET', GENERATION, CANDIDATE, 'NX') then
    redis.call('SET', SETTLING, 1, 'PX', SETTLING_MS)
  end
  redis.call('SET', LEASE, 1, 'PX', LEASE_MS)
  redis.call('SADD', OWNERS, ME)
  return true
end

-- Epoch and owner, or nothing.
local function claimed(claim)
  return string.match(redis.call('GET', claim) or '', '^(%S+) (.+)$')
end

-- Lua alone would write 1.8e+15. Its numbers hold microseconds exactly until the year 2255.
local function text(epoch) return string.format('%.0f', epoch) end

local function keep(claim, entity, epoch)
  redis.call('SET', claim, text(epoch) .. ' ' .. ME)
  redis.call('SADD', OWNED, entity)
  if epoch > tonumber(redis.call('GET', EPOCH) or 0) then
    redis.call('SET', EPOCH, text(epoch))
  end
end
