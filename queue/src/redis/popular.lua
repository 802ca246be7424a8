
-- What gateways say of the adapters that are asked for. Nobody here looks into it.

-- How long it is believed.
local POPULAR_FOR_MS = 60 * 1000

-- Drops what is believed no longer, and returns the rest.
local function still_popular(pool)
    local name, texts = pool.prefix .. 'popular', {}
    local said = call('HGETALL', name)
    for place = 1, #said, 2 do
        local till, text = unpack(read_packed(said[place + 1]))
        if till > pool.now then
            texts[#texts + 1] = text
        else
            call('HDEL', name, said[place])
        end
    end
    return texts
end

-- ARGV: gateway, what it says.
local function say_popular(keys, args)
    local pool = begin(keys, args)
    still_popular(pool)
    local name = pool.prefix .. 'popular'
    call('HSET', name, args[2], pack({ pool.now + POPULAR_FOR_MS, args[3] }))
    call('PEXPIRE', name, TTL_MS)
    finish_step(pool)
    return 0
end

-- Returns what gateways have said.
local function popular(keys, args)
    local pool = begin(keys, args)
    local texts = still_popular(pool)
    finish_step(pool)
    return texts
end

register('say_popular', say_popular, {})
register('popular', popular, LETS_GO)
