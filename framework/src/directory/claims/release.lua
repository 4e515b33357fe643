-- Gives up a claim, if it is still that one.
local CLAIM = KEYS[8]
local ENTITY, EPOCH_GIVEN_UP = ARGV[6], ARGV[7]

local epoch, owner = claimed(CLAIM)
if owner == ME and epoch == EPOCH_GIVEN_UP then
  redis.call('DEL', CLAIM)
  redis.call('SREM', OWNED, ENTITY)
end
return {}
