-- Another lease for this incarnation, and the generation it lives in.
if not lives() then return {} end
return {redis.call('GET', GENERATION)}
