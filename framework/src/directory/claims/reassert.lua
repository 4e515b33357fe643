-- Puts claims back that Redis has lost: KEYS[8] and on, with entity and epoch of each in ARGV[6]
-- and on. Answers those that are another's by now.
local alive = lives()
local lost = {}
for i = 8, #KEYS do
  local claim, entity, epoch = KEYS[i], ARGV[2 * i - 10], tonumber(ARGV[2 * i - 9])
  local kept, owner = claimed(claim)
  if not alive or (owner and owner ~= ME and tonumber(kept) >= epoch) then
    lost[#lost + 1] = entity
  elseif not owner or tonumber(kept) < epoch then
    -- The later claim is the valid one: who put back the earlier had lost it before the data
    -- were lost. Its set is not among the KEYS, but has their hash tag.
    if owner and owner ~= ME then
      redis.call('SREM', string.sub(OWNED, 1, #OWNED - #ME) .. owner, entity)
    end
    keep(claim, entity, epoch)
  end
end
return lost
