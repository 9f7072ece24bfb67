-- Agrees on the shares of one budget. KEYS[1] is a hash with a field for each member, "m:" .. id, and "born".
-- ARGV: id, time to live in ms, what is left of the member's pause in ms, its learned limit, and for each limit of the budget
-- the part (0 to 1) that the member keeps to now and the part that it could use.
-- Returns what is left of the pause in ms, the number of members, the mean of the others' learned limits, and the parts that it may keep to.
local key, id, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
local pause, learned, k = tonumber(ARGV[3]), tonumber(ARGV[4]), (#ARGV - 4) / 2
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local born, gate, others, gone = nil, 0, {}, {}
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
	local name, value = all[i], all[i + 1]
	if name == 'born' then
		born = tonumber(value)
	elseif name == 'gate' then
		gate = tonumber(value)
	else
		local m = {}
		for n in string.gmatch(value, '%S+') do
			m[#m + 1] = tonumber(n)
		end
		if m[1] < now then
			gone[#gone + 1] = name
		elseif name ~= 'm:' .. id then
			others[#others + 1] = m
		end
	end
end
if #gone > 0 then
	redis.call('HDEL', key, unpack(gone))
end
if not born then
	born = now
	redis.call('HSET', key, 'born', now)
end
if pause > 0 and now + pause > gate then
	gate = now + pause
	redis.call('HSET', key, 'gate', gate)
end

-- A hash that is new knows nobody yet who keeps to a share of before. Until they have come, nobody gets more than he has.
local new = now < born + ttl
local n = #others + 1
local reply = {tostring(math.max(0, gate - now)), tostring(n)}
local entry = {now + ttl, learned}
local sum, count = 0, 0
for _, m in ipairs(others) do
	if m[2] > 0 then
		sum, count = sum + m[2], count + 1
	end
end
reply[3] = tostring(count > 0 and sum / count or 0)
for j = 1, k do
	local applied, want = tonumber(ARGV[3 + 2 * j]), tonumber(ARGV[4 + 2 * j])
	-- Max-min fairness: who wants little gets it, the others share what is left, and what nobody wants is shared by all. Everybody
	-- has a little, so that a first call need not wait for the next round.
	local least = 0.02 / n
	local wants, held = {math.max(want, least)}, 0
	for _, m in ipairs(others) do
		-- One whose budget has fewer limits, while a configuration is rolled out, holds nothing of the others.
		wants[#wants + 1] = math.max(m[2 + 2 * j] or 0, least)
		held = held + (m[1 + 2 * j] or 0)
	end
	local mine, left = wants[1], 1
	table.sort(wants)
	local got = nil
	for i, w in ipairs(wants) do
		local level = left / (n - i + 1)
		if w >= level then
			got = got or level -- this one and all that follow
			left = 0
			break
		end
		left = left - w
	end
	local target = got and math.min(mine, got) or mine
	target = target + left / n
	local grant = math.max(0, math.min(target, 1 - held))
	if new then
		grant = math.min(grant, applied)
	end
	-- Until the member says that it keeps to less, it may be using what it had.
	entry[#entry + 1] = math.max(applied, grant)
	entry[#entry + 1] = want
	reply[#reply + 1] = tostring(grant)
end
redis.call('HSET', key, 'm:' .. id, table.concat(entry, ' '))
redis.call('PEXPIRE', key, math.max(60000, 20 * ttl))
return reply
