require 'sinatra/base'
class App < Sinatra::Base
  get('/') { "ruby says #{(1..4).reduce(:*)}\n" }
end
