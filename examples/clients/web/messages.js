// Generated from .proto files by bastide-js: write it anew instead of changing it.
//
// A field is its number, its name, how often it comes, and its type: a word of protobuf, or the
// name of a message. 64-bit numbers are Numbers while those are exact, beyond that BigInts.

/**
 * @typedef {object} arena_Ball
 * @property {number} id
 * @property {number} x
 * @property {number} y
 * @property {number} radius
 * @property {boolean} robot
 */

/**
 * @typedef {object} arena_Eaten
 * @property {string} by
 * @property {number} score
 */

/**
 * @typedef {object} arena_Field
 * @property {number} width
 * @property {number} height
 * @property {number} ticksPerS
 * @property {number} me
 * @property {number} secondsLeft
 */

/**
 * @typedef {object} arena_Names
 * @property {Array<arena_Names_Name>} names
 */

/**
 * @typedef {object} arena_Names_Name
 * @property {number} id
 * @property {string} name
 */

/**
 * @typedef {object} arena_Respawn_Req
 */

/**
 * @typedef {object} arena_Respawn_Res
 * @property {number} code
 */

/**
 * @typedef {object} arena_SavedBall
 * @property {number} id
 * @property {number} [seat]
 * @property {number} x
 * @property {number} y
 * @property {number} area
 * @property {number} dx
 * @property {number} dy
 * @property {number} score
 */

/**
 * @typedef {object} arena_SavedWorld
 * @property {number|bigint} tick
 * @property {number} nextId
 * @property {Array<number>} food
 * @property {Array<arena_SavedBall>} balls
 */

/**
 * @typedef {object} arena_Steer
 * @property {number} dx
 * @property {number} dy
 */

/**
 * @typedef {object} arena_Top
 * @property {Array<arena_Top_Place>} places
 */

/**
 * @typedef {object} arena_Top_Place
 * @property {string} name
 * @property {number} score
 */

/**
 * @typedef {object} arena_View
 * @property {number|bigint} tick
 * @property {number|bigint} st
 * @property {Array<arena_Ball>} balls
 * @property {Array<number>} food
 * @property {number} score
 * @property {number} players
 */

/**
 * @typedef {object} cards_Bag
 * @property {number|bigint} gold
 * @property {number|bigint} diamond
 * @property {number} drawsSinceRare
 * @property {Array<cards_Stack>} cards
 * @property {string} [name]
 * @property {number|bigint} createdMs
 * @property {number|bigint} goldUpdatedMs
 */

/**
 * @typedef {object} cards_Card
 * @property {number} id
 * @property {string} name
 * @property {number} rarity
 */

/**
 * @typedef {object} cards_Draw_Req
 * @property {number} count
 */

/**
 * @typedef {object} cards_Draw_Res
 * @property {number} code
 * @property {Array<cards_Card>} cards
 * @property {number|bigint} [gold]
 * @property {number} [drawsUntilRare]
 */

/**
 * @typedef {object} cards_Stack
 * @property {number} cardId
 * @property {number|bigint} count
 * @property {number|bigint} createTime
 * @property {number|bigint} updateTime
 */

/**
 * @typedef {object} chat_Channel
 * @property {Array<chat_Present>} present
 * @property {Array<chat_Line>} lines
 */

/**
 * @typedef {object} chat_History_Req
 * @property {number|bigint} before
 */

/**
 * @typedef {object} chat_History_Res
 * @property {number} code
 * @property {Array<chat_Line>} lines
 */

/**
 * @typedef {object} chat_Line
 * @property {number|bigint} number
 * @property {number|bigint} st
 * @property {number|bigint} account
 * @property {string} name
 * @property {string} text
 */

/**
 * @typedef {object} chat_Present
 * @property {number|bigint} account
 * @property {string} name
 * @property {boolean} away
 * @property {boolean} gone
 */

/**
 * @typedef {object} chat_SavedChannel
 * @property {number|bigint} number
 * @property {Array<chat_Line>} lines
 */

/**
 * @typedef {object} chat_Say_Req
 * @property {string} text
 */

/**
 * @typedef {object} chat_Say_Res
 * @property {number} code
 * @property {number|bigint} number
 */

/**
 * @typedef {object} def_Event
 * @property {number} oper
 * @property {number} [argA]
 * @property {number} [argB]
 * @property {number|bigint} [arg64]
 * @property {string} [argStr]
 */

/**
 * @typedef {object} def_Item
 * @property {number|bigint} id
 * @property {number} idx
 * @property {number|bigint} num
 * @property {number|bigint} createTime
 * @property {number|bigint} updateTime
 */

/**
 * @typedef {object} def_Mail
 * @property {number|bigint} id
 * @property {number} type
 * @property {number|bigint} from
 * @property {number|bigint} to
 * @property {number} status
 * @property {string} [title]
 * @property {string} [content]
 * @property {number|bigint} createTime
 * @property {number|bigint} updateTime
 * @property {Array<def_Item>} items
 */

/**
 * @typedef {object} def_Rank
 * @property {number} type
 * @property {Array<def_RankItem>} items
 */

/**
 * @typedef {object} def_RankItem
 * @property {number} rank
 * @property {number|bigint} val
 * @property {def_UserBrief} [user]
 */

/**
 * @typedef {object} def_User
 * @property {number|bigint} id
 * @property {number|bigint} account
 * @property {string} [name]
 * @property {number} [icon]
 * @property {number} [lvl]
 * @property {number} [vip]
 * @property {string} [motto]
 * @property {number} status
 * @property {number|bigint} createTime
 * @property {number|bigint} updateTime
 * @property {Array<def_Item>} items
 */

/**
 * @typedef {object} def_UserBrief
 * @property {number|bigint} id
 * @property {string} name
 * @property {number} [icon]
 * @property {number} [lvl]
 * @property {number} [vip]
 * @property {string} [motto]
 */

/**
 * @typedef {object} msg_Auth_Req
 * @property {string} [version]
 * @property {string} [username]
 * @property {string} [password]
 * @property {string} [deviceId]
 * @property {string} [clientIp]
 */

/**
 * @typedef {object} msg_Auth_Res
 * @property {number} code
 * @property {string} [token]
 * @property {string} [addr]
 * @property {number|bigint} [accountId]
 * @property {string} [openid]
 * @property {string} [refreshToken]
 * @property {number|bigint} [expiresIn]
 */

/**
 * @typedef {object} msg_BindAccount_Req
 * @property {number|bigint} accountId
 * @property {string} username
 * @property {string} password
 */

/**
 * @typedef {object} msg_BindAccount_Res
 * @property {number} code
 */

/**
 * @typedef {object} msg_BindPhone_Req
 * @property {number|bigint} accountId
 * @property {string} password
 * @property {string} phone
 * @property {string} code
 */

/**
 * @typedef {object} msg_BindPhone_Res
 * @property {number} code
 */

/**
 * @typedef {object} msg_CancelMatch_Req
 * @property {string} kind
 */

/**
 * @typedef {object} msg_CancelMatch_Res
 * @property {number} code
 */

/**
 * @typedef {object} msg_ChangePassword_Req
 * @property {number|bigint} accountId
 * @property {string} password
 * @property {string} newPassword
 */

/**
 * @typedef {object} msg_ChangePassword_Res
 * @property {number} code
 */

/**
 * @typedef {object} msg_Echo_Req
 * @property {number|bigint} [val]
 * @property {number|bigint} [ct]
 */

/**
 * @typedef {object} msg_Echo_Res
 * @property {number|bigint} [val]
 * @property {number|bigint} [ct]
 */

/**
 * @typedef {object} msg_EnterRoom_Req
 * @property {string} kind
 * @property {string} roomId
 * @property {string} requestId
 * @property {Map<string, string>} options
 */

/**
 * @typedef {object} msg_EnterRoom_Res
 * @property {number} code
 * @property {string} roomId
 * @property {Uint8Array} ticket
 * @property {string} addr
 * @property {number} members
 */

/**
 * @typedef {object} msg_Error_Res
 * @property {number} code
 * @property {string} api
 * @property {string} message
 */

/**
 * @typedef {object} msg_GetItems_Req
 * @property {number} [idx]
 */

/**
 * @typedef {object} msg_GetItems_Res
 * @property {number} code
 * @property {Array<def_Item>} items
 */

/**
 * @typedef {object} msg_GetMails_Req
 * @property {number|bigint} [id]
 */

/**
 * @typedef {object} msg_GetMails_Res
 * @property {number} code
 * @property {Array<def_Mail>} mails
 */

/**
 * @typedef {object} msg_GetRank_Req
 * @property {number} [type]
 */

/**
 * @typedef {object} msg_GetRank_Res
 * @property {number} code
 * @property {def_Rank} [rank]
 */

/**
 * @typedef {object} msg_GetUser_Req
 * @property {number|bigint} id
 */

/**
 * @typedef {object} msg_GetUser_Res
 * @property {number} code
 * @property {def_User} [user]
 */

/**
 * @typedef {object} msg_GiftItems_Req
 * @property {number|bigint} dstId
 * @property {number} itemIdx
 * @property {number} itemNum
 */

/**
 * @typedef {object} msg_GiftItems_Res
 * @property {number} code
 */

/**
 * @typedef {object} msg_JoinRoom_Req
 * @property {Uint8Array} ticket
 * @property {string} name
 */

/**
 * @typedef {object} msg_JoinRoom_Res
 * @property {number} code
 * @property {string} roomId
 * @property {Uint8Array} state
 */

/**
 * @typedef {object} msg_Kick_Res
 * @property {number} code
 * @property {string} reason
 */

/**
 * @typedef {object} msg_LeaveRoom_Req
 * @property {string} roomId
 */

/**
 * @typedef {object} msg_LeaveRoom_Res
 * @property {number} code
 */

/**
 * @typedef {object} msg_ListRooms_Req
 * @property {string} kind
 * @property {number} page
 * @property {number} pageSize
 * @property {Map<string, string>} filter
 */

/**
 * @typedef {object} msg_ListRooms_Res
 * @property {number} code
 * @property {Array<msg_ListRooms_Room>} rooms
 * @property {number} nextPage
 */

/**
 * @typedef {object} msg_ListRooms_Room
 * @property {string} roomId
 * @property {string} kind
 * @property {number} members
 * @property {number} capacity
 * @property {boolean} locked
 * @property {Map<string, string>} info
 */

/**
 * @typedef {object} msg_Login_Req
 * @property {string} token
 * @property {string} [deviceId]
 * @property {string} [platform]
 * @property {string} [version]
 */

/**
 * @typedef {object} msg_Login_Res
 * @property {number} code
 * @property {def_User} [user]
 * @property {string} [sessionId]
 * @property {Uint8Array} [resumeToken]
 * @property {number} [resumeWindowS]
 * @property {number|bigint} [serverTimeMs]
 */

/**
 * @typedef {object} msg_Logout_Req
 * @property {number|bigint} account
 */

/**
 * @typedef {object} msg_Logout_Res
 * @property {number} code
 */

/**
 * @typedef {object} msg_MatchRoom_Req
 * @property {string} kind
 * @property {number} rating
 * @property {string} party
 * @property {number} partySize
 * @property {Map<string, string>} options
 */

/**
 * @typedef {object} msg_MatchRoom_Res
 * @property {number} code
 */

/**
 * @typedef {object} msg_Matched
 * @property {string} kind
 * @property {string} roomId
 * @property {Uint8Array} ticket
 * @property {string} addr
 * @property {number} code
 */

/**
 * @typedef {object} msg_Ping_Req
 * @property {number|bigint} ct
 * @property {number|bigint} received
 */

/**
 * @typedef {object} msg_Ping_Res
 * @property {number|bigint} ct
 * @property {number|bigint} st
 * @property {number|bigint} received
 */

/**
 * @typedef {object} msg_Registry_Req
 * @property {string} username
 * @property {string} password
 * @property {string} [clientIp]
 */

/**
 * @typedef {object} msg_Registry_Res
 * @property {number} code
 * @property {string} [token]
 * @property {string} [addr]
 * @property {number|bigint} [accountId]
 * @property {string} [openid]
 * @property {string} [refreshToken]
 * @property {number|bigint} [expiresIn]
 */

/**
 * @typedef {object} msg_ResetPassword_Req
 * @property {number|bigint} accountId
 * @property {string} code
 * @property {string} newPassword
 */

/**
 * @typedef {object} msg_ResetPassword_Res
 * @property {number} code
 */

/**
 * @typedef {object} msg_Resume_Req
 * @property {Uint8Array} resumeToken
 * @property {number|bigint} received
 */

/**
 * @typedef {object} msg_Resume_Res
 * @property {number} code
 * @property {number|bigint} received
 * @property {Uint8Array} resumeToken
 */

/**
 * @typedef {object} msg_RoomClosed
 * @property {string} roomId
 * @property {number} code
 * @property {string} reason
 */

/**
 * @typedef {object} msg_SetEvent_Req
 * @property {def_Event} event
 */

/**
 * @typedef {object} msg_SetEvent_Res
 * @property {number} code
 */

/**
 * @typedef {object} msg_SignOut_Req
 * @property {string} [token]
 * @property {string} [refreshToken]
 */

/**
 * @typedef {object} msg_SignOut_Res
 * @property {number} code
 */

/**
 * @typedef {object} msg_VerificationCode_Req
 * @property {string} phone
 */

/**
 * @typedef {object} msg_VerificationCode_Res
 * @property {number} code
 */

/**
 * Each message by its name.
 * @typedef {object} Messages
 * @property {arena_Ball} "arena.Ball"
 * @property {arena_Eaten} "arena.Eaten"
 * @property {arena_Field} "arena.Field"
 * @property {arena_Names} "arena.Names"
 * @property {arena_Names_Name} "arena.Names.Name"
 * @property {arena_Respawn_Req} "arena.Respawn.Req"
 * @property {arena_Respawn_Res} "arena.Respawn.Res"
 * @property {arena_SavedBall} "arena.SavedBall"
 * @property {arena_SavedWorld} "arena.SavedWorld"
 * @property {arena_Steer} "arena.Steer"
 * @property {arena_Top} "arena.Top"
 * @property {arena_Top_Place} "arena.Top.Place"
 * @property {arena_View} "arena.View"
 * @property {cards_Bag} "cards.Bag"
 * @property {cards_Card} "cards.Card"
 * @property {cards_Draw_Req} "cards.Draw.Req"
 * @property {cards_Draw_Res} "cards.Draw.Res"
 * @property {cards_Stack} "cards.Stack"
 * @property {chat_Channel} "chat.Channel"
 * @property {chat_History_Req} "chat.History.Req"
 * @property {chat_History_Res} "chat.History.Res"
 * @property {chat_Line} "chat.Line"
 * @property {chat_Present} "chat.Present"
 * @property {chat_SavedChannel} "chat.SavedChannel"
 * @property {chat_Say_Req} "chat.Say.Req"
 * @property {chat_Say_Res} "chat.Say.Res"
 * @property {def_Event} "def.Event"
 * @property {def_Item} "def.Item"
 * @property {def_Mail} "def.Mail"
 * @property {def_Rank} "def.Rank"
 * @property {def_RankItem} "def.RankItem"
 * @property {def_User} "def.User"
 * @property {def_UserBrief} "def.UserBrief"
 * @property {msg_Auth_Req} "msg.Auth.Req"
 * @property {msg_Auth_Res} "msg.Auth.Res"
 * @property {msg_BindAccount_Req} "msg.BindAccount.Req"
 * @property {msg_BindAccount_Res} "msg.BindAccount.Res"
 * @property {msg_BindPhone_Req} "msg.BindPhone.Req"
 * @property {msg_BindPhone_Res} "msg.BindPhone.Res"
 * @property {msg_CancelMatch_Req} "msg.CancelMatch.Req"
 * @property {msg_CancelMatch_Res} "msg.CancelMatch.Res"
 * @property {msg_ChangePassword_Req} "msg.ChangePassword.Req"
 * @property {msg_ChangePassword_Res} "msg.ChangePassword.Res"
 * @property {msg_Echo_Req} "msg.Echo.Req"
 * @property {msg_Echo_Res} "msg.Echo.Res"
 * @property {msg_EnterRoom_Req} "msg.EnterRoom.Req"
 * @property {msg_EnterRoom_Res} "msg.EnterRoom.Res"
 * @property {msg_Error_Res} "msg.Error.Res"
 * @property {msg_GetItems_Req} "msg.GetItems.Req"
 * @property {msg_GetItems_Res} "msg.GetItems.Res"
 * @property {msg_GetMails_Req} "msg.GetMails.Req"
 * @property {msg_GetMails_Res} "msg.GetMails.Res"
 * @property {msg_GetRank_Req} "msg.GetRank.Req"
 * @property {msg_GetRank_Res} "msg.GetRank.Res"
 * @property {msg_GetUser_Req} "msg.GetUser.Req"
 * @property {msg_GetUser_Res} "msg.GetUser.Res"
 * @property {msg_GiftItems_Req} "msg.GiftItems.Req"
 * @property {msg_GiftItems_Res} "msg.GiftItems.Res"
 * @property {msg_JoinRoom_Req} "msg.JoinRoom.Req"
 * @property {msg_JoinRoom_Res} "msg.JoinRoom.Res"
 * @property {msg_Kick_Res} "msg.Kick.Res"
 * @property {msg_LeaveRoom_Req} "msg.LeaveRoom.Req"
 * @property {msg_LeaveRoom_Res} "msg.LeaveRoom.Res"
 * @property {msg_ListRooms_Req} "msg.ListRooms.Req"
 * @property {msg_ListRooms_Res} "msg.ListRooms.Res"
 * @property {msg_ListRooms_Room} "msg.ListRooms.Room"
 * @property {msg_Login_Req} "msg.Login.Req"
 * @property {msg_Login_Res} "msg.Login.Res"
 * @property {msg_Logout_Req} "msg.Logout.Req"
 * @property {msg_Logout_Res} "msg.Logout.Res"
 * @property {msg_MatchRoom_Req} "msg.MatchRoom.Req"
 * @property {msg_MatchRoom_Res} "msg.MatchRoom.Res"
 * @property {msg_Matched} "msg.Matched"
 * @property {msg_Ping_Req} "msg.Ping.Req"
 * @property {msg_Ping_Res} "msg.Ping.Res"
 * @property {msg_Registry_Req} "msg.Registry.Req"
 * @property {msg_Registry_Res} "msg.Registry.Res"
 * @property {msg_ResetPassword_Req} "msg.ResetPassword.Req"
 * @property {msg_ResetPassword_Res} "msg.ResetPassword.Res"
 * @property {msg_Resume_Req} "msg.Resume.Req"
 * @property {msg_Resume_Res} "msg.Resume.Res"
 * @property {msg_RoomClosed} "msg.RoomClosed"
 * @property {msg_SetEvent_Req} "msg.SetEvent.Req"
 * @property {msg_SetEvent_Res} "msg.SetEvent.Res"
 * @property {msg_SignOut_Req} "msg.SignOut.Req"
 * @property {msg_SignOut_Res} "msg.SignOut.Res"
 * @property {msg_VerificationCode_Req} "msg.VerificationCode.Req"
 * @property {msg_VerificationCode_Res} "msg.VerificationCode.Res"
 */

/**
 * Each request by its name.
 * @typedef {object} Requests
 * @property {arena_Respawn_Req} "arena.Respawn.Req"
 * @property {cards_Draw_Req} "cards.Draw.Req"
 * @property {chat_History_Req} "chat.History.Req"
 * @property {chat_Say_Req} "chat.Say.Req"
 * @property {msg_Auth_Req} "msg.Auth.Req"
 * @property {msg_BindAccount_Req} "msg.BindAccount.Req"
 * @property {msg_BindPhone_Req} "msg.BindPhone.Req"
 * @property {msg_CancelMatch_Req} "msg.CancelMatch.Req"
 * @property {msg_ChangePassword_Req} "msg.ChangePassword.Req"
 * @property {msg_Echo_Req} "msg.Echo.Req"
 * @property {msg_EnterRoom_Req} "msg.EnterRoom.Req"
 * @property {msg_GetItems_Req} "msg.GetItems.Req"
 * @property {msg_GetMails_Req} "msg.GetMails.Req"
 * @property {msg_GetRank_Req} "msg.GetRank.Req"
 * @property {msg_GetUser_Req} "msg.GetUser.Req"
 * @property {msg_GiftItems_Req} "msg.GiftItems.Req"
 * @property {msg_JoinRoom_Req} "msg.JoinRoom.Req"
 * @property {msg_LeaveRoom_Req} "msg.LeaveRoom.Req"
 * @property {msg_ListRooms_Req} "msg.ListRooms.Req"
 * @property {msg_Login_Req} "msg.Login.Req"
 * @property {msg_Logout_Req} "msg.Logout.Req"
 * @property {msg_MatchRoom_Req} "msg.MatchRoom.Req"
 * @property {msg_Ping_Req} "msg.Ping.Req"
 * @property {msg_Registry_Req} "msg.Registry.Req"
 * @property {msg_ResetPassword_Req} "msg.ResetPassword.Req"
 * @property {msg_Resume_Req} "msg.Resume.Req"
 * @property {msg_SetEvent_Req} "msg.SetEvent.Req"
 * @property {msg_SignOut_Req} "msg.SignOut.Req"
 * @property {msg_VerificationCode_Req} "msg.VerificationCode.Req"
 */

/**
 * Each request's answer, by the request's name.
 * @typedef {object} Answers
 * @property {arena_Respawn_Res} "arena.Respawn.Req"
 * @property {cards_Draw_Res} "cards.Draw.Req"
 * @property {chat_History_Res} "chat.History.Req"
 * @property {chat_Say_Res} "chat.Say.Req"
 * @property {msg_Auth_Res} "msg.Auth.Req"
 * @property {msg_BindAccount_Res} "msg.BindAccount.Req"
 * @property {msg_BindPhone_Res} "msg.BindPhone.Req"
 * @property {msg_CancelMatch_Res} "msg.CancelMatch.Req"
 * @property {msg_ChangePassword_Res} "msg.ChangePassword.Req"
 * @property {msg_Echo_Res} "msg.Echo.Req"
 * @property {msg_EnterRoom_Res} "msg.EnterRoom.Req"
 * @property {msg_GetItems_Res} "msg.GetItems.Req"
 * @property {msg_GetMails_Res} "msg.GetMails.Req"
 * @property {msg_GetRank_Res} "msg.GetRank.Req"
 * @property {msg_GetUser_Res} "msg.GetUser.Req"
 * @property {msg_GiftItems_Res} "msg.GiftItems.Req"
 * @property {msg_JoinRoom_Res} "msg.JoinRoom.Req"
 * @property {msg_LeaveRoom_Res} "msg.LeaveRoom.Req"
 * @property {msg_ListRooms_Res} "msg.ListRooms.Req"
 * @property {msg_Login_Res} "msg.Login.Req"
 * @property {msg_Logout_Res} "msg.Logout.Req"
 * @property {msg_MatchRoom_Res} "msg.MatchRoom.Req"
 * @property {msg_Ping_Res} "msg.Ping.Req"
 * @property {msg_Registry_Res} "msg.Registry.Req"
 * @property {msg_ResetPassword_Res} "msg.ResetPassword.Req"
 * @property {msg_Resume_Res} "msg.Resume.Req"
 * @property {msg_SetEvent_Res} "msg.SetEvent.Req"
 * @property {msg_SignOut_Res} "msg.SignOut.Req"
 * @property {msg_VerificationCode_Res} "msg.VerificationCode.Req"
 */

export const messages = {
  "arena.Ball": [
    [1, "id", "one", "uint32"],
    [2, "x", "one", "uint32"],
    [3, "y", "one", "uint32"],
    [4, "radius", "one", "uint32"],
    [5, "robot", "one", "bool"],
  ],
  "arena.Eaten": [
    [1, "by", "one", "string"],
    [2, "score", "one", "uint32"],
  ],
  "arena.Field": [
    [1, "width", "one", "uint32"],
    [2, "height", "one", "uint32"],
    [3, "ticksPerS", "one", "uint32"],
    [4, "me", "one", "uint32"],
    [5, "secondsLeft", "one", "uint32"],
  ],
  "arena.Names": [
    [1, "names", "many", "arena.Names.Name"],
  ],
  "arena.Names.Name": [
    [1, "id", "one", "uint32"],
    [2, "name", "one", "string"],
  ],
  "arena.Respawn.Req": [],
  "arena.Respawn.Res": [
    [1, "code", "one", "int32"],
  ],
  "arena.SavedBall": [
    [1, "id", "one", "uint32"],
    [2, "seat", "optional", "uint32"],
    [3, "x", "one", "uint32"],
    [4, "y", "one", "uint32"],
    [5, "area", "one", "uint32"],
    [6, "dx", "one", "sint32"],
    [7, "dy", "one", "sint32"],
    [8, "score", "one", "uint32"],
  ],
  "arena.SavedWorld": [
    [1, "tick", "one", "uint64"],
    [2, "nextId", "one", "uint32"],
    [3, "food", "packed", "uint32"],
    [4, "balls", "many", "arena.SavedBall"],
  ],
  "arena.Steer": [
    [1, "dx", "one", "sint32"],
    [2, "dy", "one", "sint32"],
  ],
  "arena.Top": [
    [1, "places", "many", "arena.Top.Place"],
  ],
  "arena.Top.Place": [
    [1, "name", "one", "string"],
    [2, "score", "one", "uint32"],
  ],
  "arena.View": [
    [1, "tick", "one", "uint64"],
    [2, "st", "one", "int64"],
    [3, "balls", "many", "arena.Ball"],
    [4, "food", "packed", "uint32"],
    [5, "score", "one", "uint32"],
    [6, "players", "one", "uint32"],
  ],
  "cards.Bag": [
    [1, "gold", "required", "int64"],
    [2, "diamond", "required", "int64"],
    [3, "drawsSinceRare", "required", "int32"],
    [4, "cards", "many", "cards.Stack"],
    [5, "name", "optional", "string"],
    [6, "createdMs", "required", "int64"],
    [7, "goldUpdatedMs", "required", "int64"],
  ],
  "cards.Card": [
    [1, "id", "required", "int32"],
    [2, "name", "required", "string"],
    [3, "rarity", "required", "int32"],
  ],
  "cards.Draw.Req": [
    [1, "count", "required", "int32"],
  ],
  "cards.Draw.Res": [
    [1, "code", "required", "int32"],
    [2, "cards", "many", "cards.Card"],
    [3, "gold", "optional", "int64"],
    [4, "drawsUntilRare", "optional", "int32"],
  ],
  "cards.Stack": [
    [1, "cardId", "required", "int32"],
    [2, "count", "required", "int64"],
    [3, "createTime", "required", "int64"],
    [4, "updateTime", "required", "int64"],
  ],
  "chat.Channel": [
    [1, "present", "many", "chat.Present"],
    [2, "lines", "many", "chat.Line"],
  ],
  "chat.History.Req": [
    [1, "before", "one", "uint64"],
  ],
  "chat.History.Res": [
    [1, "code", "one", "int32"],
    [2, "lines", "many", "chat.Line"],
  ],
  "chat.Line": [
    [1, "number", "one", "uint64"],
    [2, "st", "one", "int64"],
    [3, "account", "one", "int64"],
    [4, "name", "one", "string"],
    [5, "text", "one", "string"],
  ],
  "chat.Present": [
    [1, "account", "one", "int64"],
    [2, "name", "one", "string"],
    [3, "away", "one", "bool"],
    [4, "gone", "one", "bool"],
  ],
  "chat.SavedChannel": [
    [1, "number", "one", "uint64"],
    [2, "lines", "many", "chat.Line"],
  ],
  "chat.Say.Req": [
    [1, "text", "one", "string"],
  ],
  "chat.Say.Res": [
    [1, "code", "one", "int32"],
    [2, "number", "one", "uint64"],
  ],
  "def.Event": [
    [1, "oper", "required", "int32"],
    [2, "argA", "optional", "int32"],
    [3, "argB", "optional", "int32"],
    [4, "arg64", "optional", "int64"],
    [5, "argStr", "optional", "string"],
  ],
  "def.Item": [
    [1, "id", "required", "int64"],
    [2, "idx", "required", "int32"],
    [3, "num", "required", "int64"],
    [4, "createTime", "required", "int64"],
    [5, "updateTime", "required", "int64"],
  ],
  "def.Mail": [
    [1, "id", "required", "int64"],
    [2, "type", "required", "int32"],
    [3, "from", "required", "int64"],
    [4, "to", "required", "int64"],
    [5, "status", "required", "int32"],
    [6, "title", "optional", "string"],
    [7, "content", "optional", "string"],
    [8, "createTime", "required", "int64"],
    [9, "updateTime", "required", "int64"],
    [10, "items", "many", "def.Item"],
  ],
  "def.Rank": [
    [1, "type", "required", "int32"],
    [2, "items", "many", "def.RankItem"],
  ],
  "def.RankItem": [
    [1, "rank", "required", "int32"],
    [2, "val", "required", "int64"],
    [3, "user", "optional", "def.UserBrief"],
  ],
  "def.User": [
    [1, "id", "required", "int64"],
    [2, "account", "required", "int64"],
    [3, "name", "optional", "string"],
    [4, "icon", "optional", "int32"],
    [5, "lvl", "optional", "int32"],
    [6, "vip", "optional", "int32"],
    [7, "motto", "optional", "string"],
    [10, "status", "required", "int32"],
    [11, "createTime", "required", "int64"],
    [12, "updateTime", "required", "int64"],
    [20, "items", "many", "def.Item"],
  ],
  "def.UserBrief": [
    [1, "id", "required", "int64"],
    [2, "name", "required", "string"],
    [3, "icon", "optional", "int32"],
    [4, "lvl", "optional", "int32"],
    [5, "vip", "optional", "int32"],
    [6, "motto", "optional", "string"],
  ],
  "msg.Auth.Req": [
    [1, "version", "optional", "string"],
    [2, "username", "optional", "string"],
    [3, "password", "optional", "string"],
    [4, "deviceId", "optional", "string"],
    [20, "clientIp", "optional", "string"],
  ],
  "msg.Auth.Res": [
    [1, "code", "required", "int32"],
    [2, "token", "optional", "string"],
    [3, "addr", "optional", "string"],
    [10, "accountId", "optional", "int64"],
    [11, "openid", "optional", "string"],
    [12, "refreshToken", "optional", "string"],
    [13, "expiresIn", "optional", "int64"],
  ],
  "msg.BindAccount.Req": [
    [1, "accountId", "required", "int64"],
    [2, "username", "required", "string"],
    [3, "password", "required", "string"],
  ],
  "msg.BindAccount.Res": [
    [1, "code", "required", "int32"],
  ],
  "msg.BindPhone.Req": [
    [1, "accountId", "required", "int64"],
    [2, "password", "required", "string"],
    [3, "phone", "required", "string"],
    [4, "code", "required", "string"],
  ],
  "msg.BindPhone.Res": [
    [1, "code", "required", "int32"],
  ],
  "msg.CancelMatch.Req": [
    [1, "kind", "one", "string"],
  ],
  "msg.CancelMatch.Res": [
    [1, "code", "one", "int32"],
  ],
  "msg.ChangePassword.Req": [
    [1, "accountId", "required", "int64"],
    [2, "password", "required", "string"],
    [3, "newPassword", "required", "string"],
  ],
  "msg.ChangePassword.Res": [
    [1, "code", "required", "int32"],
  ],
  "msg.Echo.Req": [
    [1, "val", "optional", "int64"],
    [2, "ct", "optional", "int64"],
  ],
  "msg.Echo.Res": [
    [1, "val", "optional", "int64"],
    [2, "ct", "optional", "int64"],
  ],
  "msg.EnterRoom.Req": [
    [1, "kind", "one", "string"],
    [2, "roomId", "one", "string"],
    [3, "requestId", "one", "string"],
    [4, "options", "map", "string", "string"],
  ],
  "msg.EnterRoom.Res": [
    [1, "code", "one", "int32"],
    [2, "roomId", "one", "string"],
    [3, "ticket", "one", "bytes"],
    [4, "addr", "one", "string"],
    [5, "members", "one", "uint32"],
  ],
  "msg.Error.Res": [
    [1, "code", "one", "int32"],
    [2, "api", "one", "string"],
    [3, "message", "one", "string"],
  ],
  "msg.GetItems.Req": [
    [1, "idx", "optional", "int32"],
  ],
  "msg.GetItems.Res": [
    [1, "code", "required", "int32"],
    [2, "items", "many", "def.Item"],
  ],
  "msg.GetMails.Req": [
    [1, "id", "optional", "int64"],
  ],
  "msg.GetMails.Res": [
    [1, "code", "required", "int32"],
    [2, "mails", "many", "def.Mail"],
  ],
  "msg.GetRank.Req": [
    [1, "type", "optional", "int32"],
  ],
  "msg.GetRank.Res": [
    [1, "code", "required", "int32"],
    [2, "rank", "optional", "def.Rank"],
  ],
  "msg.GetUser.Req": [
    [1, "id", "required", "int64"],
  ],
  "msg.GetUser.Res": [
    [1, "code", "required", "int32"],
    [2, "user", "optional", "def.User"],
  ],
  "msg.GiftItems.Req": [
    [1, "dstId", "required", "int64"],
    [2, "itemIdx", "required", "int32"],
    [3, "itemNum", "required", "int32"],
  ],
  "msg.GiftItems.Res": [
    [1, "code", "required", "int32"],
  ],
  "msg.JoinRoom.Req": [
    [1, "ticket", "one", "bytes"],
    [2, "name", "one", "string"],
  ],
  "msg.JoinRoom.Res": [
    [1, "code", "one", "int32"],
    [2, "roomId", "one", "string"],
    [3, "state", "one", "bytes"],
  ],
  "msg.Kick.Res": [
    [1, "code", "one", "int32"],
    [2, "reason", "one", "string"],
  ],
  "msg.LeaveRoom.Req": [
    [1, "roomId", "one", "string"],
  ],
  "msg.LeaveRoom.Res": [
    [1, "code", "one", "int32"],
  ],
  "msg.ListRooms.Req": [
    [1, "kind", "one", "string"],
    [2, "page", "one", "uint32"],
    [3, "pageSize", "one", "uint32"],
    [4, "filter", "map", "string", "string"],
  ],
  "msg.ListRooms.Res": [
    [1, "code", "one", "int32"],
    [2, "rooms", "many", "msg.ListRooms.Room"],
    [3, "nextPage", "one", "uint32"],
  ],
  "msg.ListRooms.Room": [
    [1, "roomId", "one", "string"],
    [2, "kind", "one", "string"],
    [3, "members", "one", "uint32"],
    [4, "capacity", "one", "uint32"],
    [5, "locked", "one", "bool"],
    [6, "info", "map", "string", "string"],
  ],
  "msg.Login.Req": [
    [1, "token", "required", "string"],
    [2, "deviceId", "optional", "string"],
    [3, "platform", "optional", "string"],
    [4, "version", "optional", "string"],
  ],
  "msg.Login.Res": [
    [1, "code", "required", "int32"],
    [2, "user", "optional", "def.User"],
    [10, "sessionId", "optional", "string"],
    [11, "resumeToken", "optional", "bytes"],
    [12, "resumeWindowS", "optional", "uint32"],
    [13, "serverTimeMs", "optional", "int64"],
  ],
  "msg.Logout.Req": [
    [1, "account", "required", "int64"],
  ],
  "msg.Logout.Res": [
    [1, "code", "required", "int32"],
  ],
  "msg.MatchRoom.Req": [
    [1, "kind", "one", "string"],
    [2, "rating", "one", "int32"],
    [3, "party", "one", "string"],
    [4, "partySize", "one", "uint32"],
    [5, "options", "map", "string", "string"],
  ],
  "msg.MatchRoom.Res": [
    [1, "code", "one", "int32"],
  ],
  "msg.Matched": [
    [1, "kind", "one", "string"],
    [2, "roomId", "one", "string"],
    [3, "ticket", "one", "bytes"],
    [4, "addr", "one", "string"],
    [5, "code", "one", "int32"],
  ],
  "msg.Ping.Req": [
    [1, "ct", "one", "int64"],
    [2, "received", "one", "uint64"],
  ],
  "msg.Ping.Res": [
    [1, "ct", "one", "int64"],
    [2, "st", "one", "int64"],
    [3, "received", "one", "uint64"],
  ],
  "msg.Registry.Req": [
    [1, "username", "required", "string"],
    [2, "password", "required", "string"],
    [20, "clientIp", "optional", "string"],
  ],
  "msg.Registry.Res": [
    [1, "code", "required", "int32"],
    [2, "token", "optional", "string"],
    [3, "addr", "optional", "string"],
    [10, "accountId", "optional", "int64"],
    [11, "openid", "optional", "string"],
    [12, "refreshToken", "optional", "string"],
    [13, "expiresIn", "optional", "int64"],
  ],
  "msg.ResetPassword.Req": [
    [1, "accountId", "required", "int64"],
    [2, "code", "required", "string"],
    [3, "newPassword", "required", "string"],
  ],
  "msg.ResetPassword.Res": [
    [1, "code", "required", "int32"],
  ],
  "msg.Resume.Req": [
    [1, "resumeToken", "one", "bytes"],
    [2, "received", "one", "uint64"],
  ],
  "msg.Resume.Res": [
    [1, "code", "one", "int32"],
    [2, "received", "one", "uint64"],
    [3, "resumeToken", "one", "bytes"],
  ],
  "msg.RoomClosed": [
    [1, "roomId", "one", "string"],
    [2, "code", "one", "int32"],
    [3, "reason", "one", "string"],
  ],
  "msg.SetEvent.Req": [
    [1, "event", "required", "def.Event"],
  ],
  "msg.SetEvent.Res": [
    [2, "code", "required", "int32"],
  ],
  "msg.SignOut.Req": [
    [1, "token", "optional", "string"],
    [2, "refreshToken", "optional", "string"],
  ],
  "msg.SignOut.Res": [
    [1, "code", "required", "int32"],
  ],
  "msg.VerificationCode.Req": [
    [1, "phone", "required", "string"],
  ],
  "msg.VerificationCode.Res": [
    [1, "code", "required", "int32"],
  ],
};

export const enums = {
  "def.ResCode": {
    OK: 0,
    INTERNAL: 1,
    NOT_READY: 101,
    WRONG_CREDENTIALS: 201,
    NOT_CREATED: 202,
    NAME_TAKEN: 203,
    NO_SUCH_ACCOUNT: 204,
    PHONE_INVALID: 205,
    CODE_EXPIRED: 206,
    CODE_WRONG: 207,
    TOO_MANY_TRIES: 208,
    BANNED: 209,
    PARAMETER: 210,
    NOT_CONNECTED: 1001,
    BUSY: 1002,
    DEADLINE: 1003,
    UNKNOWN_API: 1004,
    UNDECODABLE: 1005,
    NOT_SIGNED_IN: 1006,
    RATE_LIMITED: 1007,
    FRAME_TOO_LARGE: 1008,
    PROTOCOL: 1009,
    TOKEN_INVALID: 2001,
    TOKEN_EXPIRED: 2002,
    USER_NOT_CREATED: 2003,
    RESUME_REFUSED: 2004,
    SIGNED_IN_ELSEWHERE: 2005,
    REMOVED: 2006,
    DRAINING: 2007,
    TOO_SLOW: 2008,
    ROOM_NOT_FOUND: 3001,
    ROOM_FULL: 3002,
    TICKET_INVALID: 3003,
    NO_ROOM_SERVER: 3004,
    ALREADY_IN_ROOM: 3005,
    NOT_IN_ROOM: 3006,
    ROOM_CLOSED: 3007,
  },
};
