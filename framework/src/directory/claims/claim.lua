-- Claims a free entity, or takes it over from the owner FROM.
local CLAIM, FROM_LEASE, FROM_OWNED, FROM_DEAD = KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local ENTITY, FLOOR, FROM = ARGV[6], tonumber(ARGV[7]), ARGV[8]

if not lives() then return {'dead'} end
local epoch, owner = claimed(CLAIM)
-- Ours already: a fresh epoch all the same, so that a release or a write of an earlier run that
-- is late finds that it is not meant.
if owner ~= ME then
  if redis.call('EXISTS', SETTLING) == 1 then return {'settling'} end
  if owner then
    if owner ~= FROM or redis.call('EXISTS', FROM_LEASE) == 1 then return {'held', owner} end
    redis.call('SET', FROM_DEAD, 1, 'PX', DEAD_MS)
    redis.call('SREM', FROM_OWNED, ENTITY)
  end
end

-- Redis may have lost its data, so the time; its clock may have been set back, so the others.
local now = redis.call('TIME')
local fresh = math.max(
  tonumber(now[1]) * 1000000 + tonumber(now[2]),
  tonumber(redis.call('GET', EPOCH) or 0) + 1,
  FLOOR + 1)
keep(CLAIM, ENTITY, fresh)
return {'granted', text(fresh)}
