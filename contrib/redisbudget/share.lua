-- Agrees on the shares of one budget. KEYS[1] is a hash with a field for each member, "m:" .. id, "born", "gate", and "at", the time of the last call.
-- ARGV: id, time to live in ms, what is left of the member's pause in ms, its learned limit, the number of this call of the member's, and for each
-- limit of the budget its name, the part (0 to 1) that the member keeps to now and the part that it could use.
-- Returns what is left of the pause in ms, the number of members, the mean of the others' learned limits, and the parts that it may keep to.
local key, id, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
local pause, learned, turn, k = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), (#ARGV - 5) / 3
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

-- A call that was held up on its way, and comes after a later one, tells of a part that may have grown since.
local told = redis.call('HGET', key, 'm:' .. id)
if told and tonumber(string.match(told, '(%S+)$')) > turn then
	return {}
end

local born, gate, member, others, gone = nil, 0, false, {}, {}
-- When the server's clock has gone back, as with a replica that takes over, instants of before are too far away: a pause would last longer by
-- that, and who is gone would stay. The hash begins anew; who is there tells it.
local at = tonumber(redis.call('HGET', key, 'at'))
if at and at > now + ttl then
	redis.call('DEL', key)
end
-- When nobody has come for so long that it was not for want of members, Redis was gone for all, its clock has jumped, or it has come back with what it
-- had saved: those that seem to be gone may all keep to their parts, as in a hash that is new.
local silent = at and now - at > ttl / 2
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
	local name, value = all[i], all[i + 1]
	if name == 'born' then
		born = tonumber(value)
	elseif name == 'gate' then
		gate = tonumber(value)
	elseif name ~= 'at' then
		member = true
		local till, limit, rest = string.match(value, '^(%S+) (%S+)(.*)$')
		if not till or tonumber(till) < now then
			gone[#gone + 1] = name
		elseif name ~= 'm:' .. id then
			local m = {learned = tonumber(limit), holds = {}, wants = {}}
			for what, holds, wants in string.gmatch(rest, '(%S+) (%S+) (%S+)') do
				m.holds[what], m.wants[what] = tonumber(holds), tonumber(wants)
			end
			others[#others + 1] = m
		end
	end
end
if #gone > 0 then
	redis.call('HDEL', key, unpack(gone))
end
if not born or silent and member then
	born = now
	redis.call('HSET', key, 'born', now)
end
if pause > 0 and now + pause > gate then
	gate = now + pause
	redis.call('HSET', key, 'gate', gate)
end

-- A hash that is new knows nobody yet who keeps to a share of before. Until they have come, nobody gets more than he has. After a long time without
-- Redis they come back up to a second and some apart, as go-redis looks for it only once a second then.
local new = now < born + math.max(ttl, 2000)
local n = #others + 1
local reply = {tostring(math.max(0, gate - now)), tostring(n)}
local entry = {now + ttl, learned}
local sum, count = 0, 0
for _, m in ipairs(others) do
	if m.learned > 0 then
		sum, count = sum + m.learned, count + 1
	end
end
reply[3] = tostring(count > 0 and sum / count or 0)
for j = 1, k do
	local what, applied, want = ARGV[3 + 3 * j], tonumber(ARGV[4 + 3 * j]), tonumber(ARGV[5 + 3 * j])
	-- Max-min fairness: who wants little gets it, the others share what is left, and what nobody wants is shared by all. Everybody
	-- has a little, so that a first call need not wait for the next round.
	local wants, held = {want}, 0
	for _, m in ipairs(others) do
		if m.wants[what] then -- one whose budget has other limits, while a configuration is rolled out, has no part in this one
			wants[#wants + 1] = m.wants[what]
			held = held + m.holds[what]
		end
	end
	local sharers = #wants
	for i, w in ipairs(wants) do
		wants[i] = math.max(w, 0.02 / sharers)
	end
	local mine, left = wants[1], 1
	table.sort(wants)
	local got = nil
	for i, w in ipairs(wants) do
		local level = left / (sharers - i + 1)
		if w >= level then
			got = got or level -- this one and all that follow
			left = 0
			break
		end
		left = left - w
	end
	local target = got and math.min(mine, got) or mine
	target = target + left / sharers
	local grant = math.max(0, math.min(target, 1 - held))
	if new then
		grant = math.min(grant, applied)
	end
	-- Until the member says that it keeps to less, it may be using what it had.
	entry[#entry + 1] = what
	entry[#entry + 1] = math.max(applied, grant)
	entry[#entry + 1] = want
	reply[#reply + 1] = tostring(grant)
end
entry[#entry + 1] = turn -- last, where processes of before do not look
redis.call('HSET', key, 'm:' .. id, table.concat(entry, ' '), 'at', now)
redis.call('PEXPIRE', key, math.max(60000, 20 * ttl))
return reply
