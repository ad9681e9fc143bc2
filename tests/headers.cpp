// The headers that tests share, precompiled once.
