-- Ends an incarnation (ME) for good and forgets at most LIMIT of its claims: whose node resigns
-- at once, any other one only when its lease is over. The claims are not among the KEYS, since
-- only the set tells them, but have their hash tag.
local WHY, CLAIM_PREFIX, LIMIT = ARGV[6], ARGV[7], ARGV[8]

if WHY == 'sweep' and redis.call('EXISTS', LEASE) == 1 then return {'lives'} end
redis.call('SET', DEAD, 1, 'PX', DEAD_MS)
redis.call('DEL', LEASE)
for _, entity in ipairs(redis.call('SPOP', OWNED, LIMIT)) do
  redis.call('DEL', CLAIM_PREFIX .. entity)
end
if redis.call('EXISTS', OWNED) == 1 then return {'more'} end
redis.call('SREM', OWNERS, ME)
return {'done'}
